"""A save asks the guard, in the transaction of its write.

Django sends ``pre_save`` before it opens a transaction, so ``save_base`` of the enforced families
is wrapped: the transaction is opened first, then the guard is asked, then Django goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial, wraps
from typing import Any
from uuid import UUID

from django.db import router, transaction
from django.db.models import Model

from lock_tokens.enforcement import context, guard, subjects
from lock_tokens.enforcement.created import note_created
from lock_tokens.enforcement.policy import Family, families_of, standing
from lock_tokens.enforcement.refusing import Refusal, refuse
from lock_tokens.enforcement.subjects import Saved, Subject
from lock_tokens.enforcement.transactions import transaction_for
from lock_tokens.exceptions import LockRequired
from lock_tokens.targets import Target, root_of, target_for


def unwrapped(
    model: type[Model], instance: Model, name: str, original: Callable[..., Any] | None
) -> Callable[..., Any]:
    """Return the method ``name`` of ``instance`` as it would be had ``model`` not been wrapped."""
    return partial(original, instance) if original else getattr(super(model, instance), name)


def guarded_save_base(
    model: type[Model], original: Callable[..., Any] | None
) -> Callable[..., Any]:
    """Return the ``save_base`` that ``model`` gets in place of ``original``, if it has its own."""

    @wraps(original or model.save_base)
    def save_base(
        self: Model,
        raw: bool = False,
        force_insert: Any = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Any = None,
    ) -> None:
        using = using or router.db_for_write(type(self), instance=self)
        proceed = unwrapped(model, self, "save_base", original)
        families = families_of(type(self))
        if raw or guard.is_off(families):
            proceed(raw, force_insert, force_update, using, update_fields)
            return
        with transaction_for(using):
            target = None if force_insert else _plain_target(self, using, families)
            if target and guard.holds(target):
                mark = target, families[0].standing(type(self)).policy
                with context.judging((id(self), mark)):
                    proceed(raw, force_insert, force_update, using, update_fields)
                if self.pk != target.pk:
                    Save(self, using, force_insert, force_update, update_fields).refuse_moved()
                return
            save = Save(self, using, force_insert, force_update, update_fields)
            with context.judging((id(self), *save.judge())):
                proceed(raw, save.force_insert, force_update, using, save.update_fields)
            save.require_unmoved()
            if save.inserted:
                note_created(save.created(), using)

    return save_base


def _plain_target(instance: Model, using: str, families: Sequence[Family]) -> Target | None:
    """Return the target of an object that is there, if a save asks for its own lock alone."""
    family, *others = families
    if others or family.ties or instance._state.adding:
        return None
    root, key = family.root, instance.pk
    if type(key) not in PLAIN_KEYS or not family.standing(type(instance)).plain:
        return None
    return None if subjects.has_loose_key(root, using) else target_for(root, key, using)


PLAIN_KEYS = (int, str, UUID)


class Save:
    """What one save asks the guard.

    Only an insert is allowed without a token, so it is made sure that it will be one: where
    Django would try an update first, somebody else may have created the row since we looked.
    """

    def __init__(
        self,
        instance: Model,
        using: str,
        force_insert: Any,
        force_update: bool,
        update_fields: Any,
    ) -> None:
        self.instance = instance
        self.using = using
        self.force_insert = force_insert
        self.update_fields = update_fields
        self.updates_only = force_update or update_fields is not None
        self.inserts = instance._state.adding and not self.updates_only
        # The families in which the save makes a row.
        self.inserted: list[Family] = []
        self.place = self._place()

    def judge(self) -> frozenset[Any]:
        found: list[Subject] = []
        for family in families_of(type(self.instance)):
            found += self._stored(family)
        if new := subjects.tied_values(self.instance, self.update_fields):
            name = subjects.row_name(self.instance)
            found += subjects.of_values(type(self.instance), [(name, new)], self.using)
        judgement = guard.judge(found)
        # Nothing else, whatever a receiver of pre_save or a field sets besides.
        self.update_fields = judgement.only or self.update_fields
        for subject in found:
            above = subject.standing.above
            if above and subject.target in judgement.new:
                self._force(above[-1].model)
                self.inserted += (f for f in families_of(above[-1].model) if f.policies)
        return judgement.judged

    def _place(self) -> dict[Any, Any]:
        """Return what the judgement depends on: the keys that are written, and the ties."""
        roots = [family.root for family in families_of(type(self.instance))]
        keys = {root: subjects.written_key(self.instance, root) for root in roots}
        return {**keys, **subjects.tied_values(self.instance, self.update_fields)}

    def require_unmoved(self) -> None:
        """Refuse a save that a receiver of ``pre_save`` made one of another row, or moved."""
        now = self._place()
        if now == self.place:
            return
        if any(_differ(was, now.get(name, was)) for name, was in self.place.items()):
            self.refuse_moved()

    def refuse_moved(self) -> None:
        model, name = type(self.instance), subjects.row_name(self.instance)
        error = LockRequired(
            f"{name} was not written: a receiver of pre_save changed its key, or the foreign key "
            "to what protects it, after it was judged. Override save() to do so.",
            model_label=model._meta.label,
            pk=self.instance.pk,
        )
        only = all(family.report_only for family in families_of(model))
        if not only:
            # It is written already, and must not stay.
            transaction.set_rollback(True, using=self.using)
        refuse([Refusal(error, root_of(model), self.instance.pk, self.using, only)])

    def created(self) -> Iterator[Target]:
        """Yield the objects that the save has created."""
        # A key that cannot be locked is nobody's concern.
        with suppress(ValueError):
            for family in self.inserted:
                key = subjects.written_key(self.instance, family.root)
                yield target_for(family.root, key, self.using)

    def _force(self, model: type[Model]) -> None:
        """Let the rows of ``model`` and its children be inserted, not updated."""
        forced = self.force_insert if isinstance(self.force_insert, tuple) else ()
        self.force_insert = (*forced, model)

    def _stored(self, family: Family) -> Iterator[Subject]:
        """Yield what protects the row of ``family`` that may be there already."""
        root, instance = family.root, self.instance
        key = self.place[root]
        generated = self.inserts and _has_generated_key(root)
        if key is None or generated or _is_forced(instance, root, self.force_insert):
            self.inserted.append(family)
            if generated:
                # Django does not look for the row either.
                self._force(root)
            return
        if family.exempts(self.update_fields):
            return
        target = subjects.stored_target(root, key, self.using)
        saved = Saved(instance, self.update_fields)
        if family.policies:
            subject = subjects.own_subject(
                family, type(instance), target, may_be_new=self.inserts, saved=saved
            )
            if not subject.policy.exempts(self.update_fields):
                yield subject
        if family.ties:
            yield from self._tied(family, target.pk, saved)

    def _tied(self, family: Family, key: Any, saved: Saved) -> Iterator[Subject]:
        rows = subjects.rows_with(family.root, [key], self.using)
        stored = subjects.of_rows(rows, self.using, own=False)
        if not stored.pks and self.updates_only:
            # Django will say that there is no such row, unless somebody makes one meanwhile.
            target = target_for(family.root, key, self.using)
            yield from (Subject(target, standing(tie.above or tie.beside)) for tie in family.ties)
        elif not stored.pks:
            self._force(family.root)
        for subject in stored.subjects:
            if not subject.policy.exempts(self.update_fields):
                yield subject._replace(saved=saved)


def _differ(was: Any, now: Any) -> bool:
    """Tell whether a key changed; one that was not set, or computed by the database, may."""
    return was is not None and not hasattr(was, "resolve_expression") and was != now


def _has_generated_key(model: type[Model]) -> bool:
    return all(field.has_default() or field.has_db_default() for field in model._meta.pk_fields)


def _is_forced(instance: Model, root: type[Model], force_insert: Any) -> bool:
    """Tell whether ``force_insert`` is for the ``root`` row too, not just for a child's."""
    if isinstance(force_insert, tuple):
        return issubclass(root, force_insert)
    return bool(force_insert) and type(instance)._meta.concrete_model is root
