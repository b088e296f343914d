"""Querysets of enforced models ask the guard before they write.

``GuardedQuerySet`` stands between a model's own queryset class and Django's, so that it sees what
the model's methods finally ask Django to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, partial
from typing import Any

from django.db import connections
from django.db.models import Model, QuerySet, UniqueConstraint

from lock_tokens.enforcement import context, guard, subjects
from lock_tokens.enforcement.collector import GuardedCollector
from lock_tokens.enforcement.created import note_created
from lock_tokens.enforcement.policy import Family, families_of
from lock_tokens.enforcement.refusing import Refusal, refuse
from lock_tokens.enforcement.transactions import (
    beginning_with_the_write_lock,
    transaction_for,
    whole,
)
from lock_tokens.exceptions import WriteRefused
from lock_tokens.targets import key_for, root_of, target_for


class GuardedQuerySet(QuerySet[Any, Any]):
    """Django's implementation, behind the guard."""

    def update(self, **kwargs: Any) -> int:
        if self._is_free(kwargs) or self._is_no_set_of_rows():
            return super().update(**kwargs)
        self._for_write = True
        with transaction_for(self.db):
            rows = subjects.of_rows(self._matching(), self.db)
            found = [s for s in rows.subjects if not s.policy.exempts(kwargs)]
            new = subjects.attribute_values(self.model, kwargs)
            name = f"A row of {self.model._meta.label}"
            found += subjects.of_values(self.model, [(name, new)], self.db)
            guard.judge(found if rows.pks else ())
            judged: Any = subjects.just(self, rows)
            updated: int = super(GuardedQuerySet, judged).update(**kwargs)
        self._result_cache = None
        return updated

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_update(
        self, objs: Iterable[Any], fields: Iterable[str], batch_size: int | None = None
    ) -> int:
        objs, fields = tuple(objs), list(fields)
        keys = [obj.pk for obj in objs]
        if self._is_free(fields) or self._is_no_set_of_rows() or None in keys or not keys:
            return super().bulk_update(objs, fields, batch_size)
        self._for_write = True
        with transaction_for(self.db):
            rows = subjects.of_rows(self._matching().filter(pk__in=keys), self.db)
            found = [s for s in rows.subjects if not s.policy.exempts(fields)]
            new = ((subjects.row_name(obj), subjects.tied_values(obj, fields)) for obj in objs)
            found += subjects.of_values(self.model, new, self.db)
            judged = guard.judge(found).judged
            # Django updates in batches by key, on clones of the queryset.
            with context.judging([*judged, _updates_of(self.model)]):
                return super().bulk_update(objs, fields, batch_size)

    bulk_update.alters_data = True  # type: ignore[attr-defined]

    def bulk_create(
        self,
        objs: Iterable[Any],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,
        update_conflicts: bool = False,
        update_fields: Any = None,
        unique_fields: Any = None,
    ) -> list[Any]:
        objs = list(objs)
        families = families_of(self.model)
        tied = any(family.ties for family in families)
        exempt = all(family.exempts(update_fields) for family in families)
        plain = partial(
            super().bulk_create,
            objs,
            batch_size,
            ignore_conflicts,
            update_conflicts,
            update_fields,
            unique_fields,
        )
        if not objs or guard.is_off(families) or not (tied or (update_conflicts and not exempt)):
            created = plain()
            if not (ignore_conflicts or update_conflicts):
                self._note_created(created)
            return created
        self._for_write = True
        with whole(self.db) if update_conflicts else transaction_for(self.db):
            known: list[Any] = []
            found: list[subjects.Subject] = []
            if update_conflicts:
                self._check_upsert(ignore_conflicts, update_fields, unique_fields)
                if not self._knows_rows(unique_fields):
                    self._refuse_unknown_rows(families)
                    return plain()
                rows = subjects.of_rows(self._stored(objs), self.db)
                found += (s for s in rows.subjects if not s.policy.exempts(update_fields))
                stored = {key_for(self.model, pk) for pk in rows.pks}
                known = [obj for obj in objs if _key(obj) in stored]
            found += self._new_ties(objs)
            guard.judge(found)
            kept = set(map(id, known))
            new = [obj for obj in objs if id(obj) not in kept]
            # What is not stored yet must not overwrite what somebody stores meanwhile.
            super().bulk_create(new, batch_size, ignore_conflicts)
            if not ignore_conflicts:
                self._note_created(new)
            if known:
                super().bulk_create(known, batch_size, False, True, update_fields, unique_fields)
        return objs

    bulk_create.alters_data = True  # type: ignore[attr-defined]

    # Django opens the transaction of these two itself, and reads in it before it writes.

    def get_or_create(self, defaults: Any = None, **kwargs: Any) -> tuple[Any, bool]:
        self._for_write = True
        with beginning_with_the_write_lock(self.db):
            return super().get_or_create(defaults, **kwargs)

    get_or_create.alters_data = True  # type: ignore[attr-defined]

    def update_or_create(
        self, defaults: Any = None, create_defaults: Any = None, **kwargs: Any
    ) -> tuple[Any, bool]:
        self._for_write = True
        with beginning_with_the_write_lock(self.db):
            return super().update_or_create(defaults, create_defaults, **kwargs)

    update_or_create.alters_data = True  # type: ignore[attr-defined]

    def _check_upsert(self, ignore: bool, update_fields: Any, unique_fields: Any) -> None:
        """Let Django say what is wrong with an upsert, before it is taken apart."""
        meta: Any = self.model._meta
        updated = [meta.get_field(name) for name in update_fields or ()]
        names = (meta.pk.name if name == "pk" else name for name in unique_fields or ())
        unique = [meta.get_field(name) for name in names]
        self._check_bulk_create_options(ignore, True, updated, unique)  # type: ignore[attr-defined]

    def _note_created(self, objs: Iterable[Any]) -> None:
        if any(family.has_locks for family in families_of(self.model)):
            keys = (obj.pk for obj in objs if _key(obj) is not None)
            note_created((target_for(self.model, key, self.db) for key in keys), self.db)

    def _new_ties(self, objs: Sequence[Any]) -> Iterable[subjects.Subject]:
        for obj in objs:
            obj._prepare_related_fields_for_save(operation_name="bulk_create")
        values = ((subjects.row_name(obj), subjects.tied_values(obj)) for obj in objs)
        return subjects.of_values(self.model, values, self.db)

    def _stored(self, objs: Sequence[Any]) -> QuerySet[Any, Any]:
        keys = [obj.pk for obj in objs if _key(obj) is not None]
        return QuerySet(self.model, using=self.db).filter(pk__in=keys)

    def _knows_rows(self, unique_fields: Any) -> bool:
        """Tell whether an upsert can overwrite no rows but those which its objects name."""
        meta = self.model._meta
        keys = {"pk", *(name for field in meta.pk_fields for name in (field.name, field.attname))}
        if connections[self.db].vendor == "mysql":
            return not _other_unique_columns(self.model)
        return set(unique_fields or ()) <= keys

    def _refuse_unknown_rows(self, families: Sequence[Family]) -> None:
        model: type[Model] = self.model
        label = model._meta.label
        error = WriteRefused(
            f"Objects of {label} were not written: bulk_create(update_conflicts=True) may "
            "overwrite rows that cannot be known before; lock the rows that exist and use "
            "bulk_update() for them, and bulk_create() for the others.",
            model_label=label,
        )
        only = all(family.report_only for family in families)
        refuse([Refusal(error, root_of(model), None, self.db, only)])

    def delete(self) -> tuple[int, dict[str, int]]:
        found: Any = self
        if self._is_no_set_of_rows() or found._fields is not None or found.query.distinct_fields:
            return super().delete()
        found = found._chain()
        found._for_write = True
        found.query.select_for_update = False
        found.query.select_related = False
        found.query.clear_ordering(force=True)
        with transaction_for(found.db):
            collector = GuardedCollector(using=found.db, origin=self)
            collector.collect(found)
            deleted = collector.delete()
        self._result_cache = None
        return deleted

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def _raw_delete(self, using: str | None) -> int:
        families = families_of(self.model)
        if id(self) in context.current().judged or guard.is_off(families):
            return super()._raw_delete(using)
        using = using or self.db
        with transaction_for(using):
            rows = subjects.of_rows(self, using)
            guard.judge(rows.subjects)
            judged: Any = subjects.just(self, rows)
            return super(GuardedQuerySet, judged)._raw_delete(using)

    _raw_delete.alters_data = True  # type: ignore[attr-defined]

    def _is_free(self, fields: Iterable[str]) -> bool:
        """Tell whether a write of ``fields`` here and now asks nobody."""
        families = families_of(self.model)
        names = list(fields)
        judged = context.current().judged
        return (
            not judged.isdisjoint((id(self), _updates_of(self.model)))
            or guard.is_off(families)
            or all(family.exempts(names) for family in families)
        )

    def _is_no_set_of_rows(self) -> bool:
        """Tell whether Django refuses to write what this queryset finds."""
        return bool(self.query.combinator or self.query.is_sliced)

    def _matching(self) -> Any:
        """Return the rows that an update changes, which knows neither DISTINCT ON nor locks."""
        found: Any = self._chain()  # type: ignore[attr-defined]
        found.query.distinct_fields = ()
        found.query.select_for_update = False
        return found


def _updates_of(model: type[Model]) -> tuple[str, type[Model]]:
    """Return the mark of updates of ``model`` whose rows have been judged together."""
    return "updates", model


def _key(obj: Model) -> str | None:
    try:
        return key_for(type(obj), obj.pk)
    except ValueError:
        return None


def _other_unique_columns(model: type[Model]) -> bool:
    """Tell whether a row of ``model`` can be in the way of another one by more than its key."""
    meta = model._meta
    return (
        any(field.unique and not field.primary_key for field in meta.concrete_fields)
        or bool(meta.unique_together)
        or any(isinstance(each, UniqueConstraint) for each in meta.constraints)
    )


@cache
def guarded_queryset_class(plain: type[QuerySet[Any, Any]]) -> type[QuerySet[Any, Any]]:
    """Return a class that is ``plain`` in all but that the guard is asked."""

    def __reduce__(self: QuerySet[Any, Any]) -> Any:  # noqa: N807
        # By the plain class, which can be found by its name.
        return _unpickled, (plain,), self.__getstate__()

    bases = (GuardedQuerySet,) if plain is QuerySet else (plain, GuardedQuerySet)
    return type(plain.__name__, bases, {**named_like(plain), "__reduce__": __reduce__})


def _unpickled(plain: type[QuerySet[Any, Any]]) -> Any:
    return object.__new__(guarded_queryset_class(plain))


def named_like(plain: type) -> dict[str, Any]:
    """Return the attributes that let a derived class go by the name of ``plain``."""
    names = ("__module__", "__qualname__", "__doc__")
    return {name: getattr(plain, name) for name in names}


def guarded(queryset: Any) -> Any:
    """Turn ``queryset`` into one that asks the guard, and return it."""
    if isinstance(queryset, QuerySet) and not isinstance(queryset, GuardedQuerySet):
        queryset.__class__ = guarded_queryset_class(type(queryset))
    return queryset
