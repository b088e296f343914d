"""Deletions, with all that they cascade to, ask the guard once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import reduce
from itertools import chain
from operator import or_
from typing import Any

from django.db.models import Model, QuerySet
from django.db.models.deletion import Collector
from django.db.models.signals import post_delete, pre_delete

from lock_tokens import batches
from lock_tokens.enforcement import context, guard, subjects
from lock_tokens.enforcement.policy import (
    Family,
    Policy,
    Tie,
    families_of,
    foreign_key,
    strictest,
)
from lock_tokens.enforcement.subjects import Subject
from lock_tokens.targets import Target, root_of, target_for

# The receivers of signals that judge the deletion of one object, and that remove its lock.
JUDGES = "lock_tokens.enforcement.receivers.judge_signalled_delete"
REMOVES = "lock_tokens.enforcement.receivers.remove_lock_of_deleted"


class GuardedCollector(Collector):
    """Django's collector, which judges what it has collected before it deletes it.

    Use it in a transaction that is rolled back when it raises.
    """

    data: dict[type[Model], Any]
    fast_deletes: list[Any]
    field_updates: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The locks that go with their objects.
        self.ended: list[Target] = []

    def related_objects(self, related_model: Any, related_fields: Any, objs: Any) -> Any:
        found: Any = super().related_objects(related_model, related_fields, objs)
        # Kept by those that are deleted at once, which are not cloned any more.
        found.related_by = [field.name for field in related_fields]
        return found

    def _has_signal_listeners(self, model: type[Model]) -> bool:
        """Tell whether others listen: what ours do for one object, this does for all at once."""
        families = families_of(model)
        if not families:
            return super()._has_signal_listeners(model)  # type: ignore[misc,no-any-return]
        ours = {JUDGES, REMOVES} if _have_locks(families) else {JUDGES}
        return not {*_listeners(pre_delete, model), *_listeners(post_delete, model)} <= ours

    def delete(self) -> tuple[int, dict[str, int]]:
        found = [*self._deleted(), *self._deleted_at_once(), *self._updated()]
        judged = guard.judge(found).judged
        guarded = [obj for model, objs in self.data.items() if families_of(model) for obj in objs]
        self.ended += (target for obj in guarded for target in self._locked_as(obj))
        querysets = (*self.fast_deletes, *chain.from_iterable(self.field_updates.values()))
        with context.judging([*judged, *map(id, guarded), *map(id, querysets)]):
            deleted = super().delete()
        # The locks go with their objects: the next ones with their keys are free.
        batches.remove(self.ended)
        return deleted

    def _deleted(self) -> Iterator[Subject]:
        for model, objs in self.data.items():
            families = [family for family in families_of(model) if not guard.is_off([family])]
            for family in families:
                if family.policies:
                    yield from (self._deleted_object(family, obj) for obj in objs)
            if objs and any(family.ties for family in families):
                rows = subjects.rows_with(model, [obj.pk for obj in objs], self.using)
                yield from subjects.of_rows(rows, self.using, own=False).subjects

    def _deleted_object(self, family: Family, obj: Model) -> Subject:
        new = obj._state.adding
        target = self._target(family, obj)
        subject = subjects.own_subject(family, type(obj), target, may_be_new=new)
        return subject._replace(ends=True)

    def _target(self, family: Family, obj: Model) -> Target:
        key = subjects.written_key(obj, family.root)
        if obj is self.origin:
            return subjects.stored_target(family.root, key, self.using)
        return target_for(family.root, key, self.using)

    def _locked_as(self, obj: Model) -> Iterator[Target]:
        # A key that cannot be locked left no lock.
        with suppress(ValueError):
            for family in families_of(type(obj)):
                if family.has_locks:
                    yield self._target(family, obj)

    def _deleted_at_once(self) -> Iterator[Subject]:
        """Yield the subjects of rows that are deleted without being loaded."""
        for index, queryset in enumerate(self.fast_deletes):
            families = families_of(queryset.model)
            off = guard.is_off(families)
            ties = [tie for family in families for tie in family.ties]
            covered = ties if off else self._covered(queryset, ties)
            if _have_locks(families) or len(covered) < len(ties):
                rows = subjects.of_rows(queryset, self.using, without=covered)
                self.fast_deletes[index] = subjects.just(queryset, rows)
                if _have_locks(families):
                    self.ended += self._locked_at(queryset.model, rows.pks)
                yield from (
                    subject._replace(ends=not subject.protects) for subject in rows.subjects
                )

    def _locked_at(self, model: type[Model], pks: Sequence[Any]) -> Iterator[Target]:
        # Rows that are deleted at once have no parents, so their keys are those of their locks.
        for pk in pks:
            with suppress(ValueError):
                yield target_for(model, pk, self.using)

    def _covered(self, queryset: QuerySet[Any, Any], ties: Sequence[Tie]) -> list[Tie]:
        """Return the ties to objects that are deleted too, and therefore judged themselves."""
        by = getattr(queryset, "related_by", [])
        return [tie for tie in ties if [tie.path[0]] == by and self._is_judged(tie)]

    def _is_judged(self, tie: Tie) -> bool:
        """Tell whether the objects to which rows of ``tie`` refer are judged, as strictly."""
        there = foreign_key(tie.model, tie.path[0]).related_model
        return any(
            _is_as_strict(_policies_of(family, model, tie), tie.above or tie.beside)
            for model, objs in self.data.items()
            if objs and issubclass(model, there)
            for family in families_of(model)
        )

    def _updated(self) -> Iterator[Subject]:
        """Yield the subjects of rows that refer to what is deleted, and then no more."""
        for (field, value), found in self.field_updates.items():
            families = families_of(field.model)
            free = guard.is_off(families)
            if free or all(family.exempts([field.name]) for family in families):
                continue
            unread = [each for each in found if _is_unread(each)]
            read = [obj for each in found if not _is_unread(each) for obj in each]
            if unread:
                rows = subjects.of_rows(reduce(or_, unread), self.using)
                found[:] = [subjects.just(reduce(or_, unread), rows), *([read] if read else [])]
                yield from rows.subjects
            # MariaDB empties a foreign key before it deletes the row: that has been judged.
            kept = [obj.pk for obj in read if obj not in self.data.get(type(obj), ())]
            if kept:
                others = subjects.rows_with(field.model, kept, self.using)
                yield from subjects.of_rows(others, self.using).subjects
            new = subjects.attribute_values(field.model, {field.name: value})
            name = f"A row of {field.model._meta.label}"
            yield from subjects.of_values(field.model, [(name, new)], self.using)


def _policies_of(family: Family, model: type[Model], tie: Tie) -> Sequence[Policy]:
    """Return the policies under which the deletion of an object of ``model``, to which rows of
    ``tie`` refer, needs the lock that protects those."""
    state = context.current()
    if tie.path[1:]:
        rest = (tie.path[1:], tie.protector)
        found = (each for each in family.ties if (each.path, each.protector) == rest)
        found = (each for each in found if issubclass(model, each.model))
        return [p for each in found if not state.suspends(each.roots) for p in each.above]
    if family.root is not root_of(tie.protector) or state.suspends([family.root]):
        return []
    return family.above(model) if tie.above else family.policies


def _is_as_strict(these: Sequence[Policy], those: Sequence[Policy]) -> bool:
    if not these:
        return False
    one, other = strictest(these), strictest(those)
    return one.respect <= other.respect and one.report_only <= other.report_only


def _have_locks(families: Sequence[Family]) -> bool:
    return any(family.has_locks for family in families)


def _listeners(signal: Any, model: type[Model]) -> Iterator[str]:
    for listener in chain(*signal._live_receivers(model)):
        yield f"{listener.__module__}.{getattr(listener, '__qualname__', '')}"


def _is_unread(found: Any) -> bool:
    return isinstance(found, QuerySet) and found._result_cache is None
