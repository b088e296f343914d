"""Which objects' locks does a write need? Found from an instance, from rows, from new values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from django.db import connections
from django.db.models import Field, Model, QuerySet
from django.db.models.expressions import DatabaseDefault

from lock_tokens.enforcement.policy import (
    Family,
    Policy,
    Standing,
    Tie,
    families_of,
    foreign_key,
    standing,
    strictest,
)
from lock_tokens.enforcement.refusing import Refusal, refuse
from lock_tokens.exceptions import LockRequired
from lock_tokens.targets import Target, root_of, target_for, targets_for


class Saved(NamedTuple):
    """An instance that is saved, and the names of the fields of which, all if ``None``."""

    instance: Model
    fields: Collection[str] | None


class Subject(NamedTuple):
    """An object whose lock a write needs, and why."""

    target: Target
    standing: Standing
    # The models whose suspension lets the write pass.
    roots: frozenset[type[Model]] = frozenset()
    # The write may turn out to be the first of its row, and then needs no token.
    may_be_new: bool = False
    # What is written, where it is another object that the lock of this one protects.
    protects: str = ""
    # What is saved: whether exempt fields only, what is stored has to tell.
    saved: Saved | None = None
    # The object is deleted, and its lock with it.
    ends: bool = False

    @property
    def policy(self) -> Policy:
        return self.standing.policy

    @property
    def mark(self) -> tuple[Target, Policy]:
        """What makes two judgements the same."""
        return self.target, self.policy

    def joined(self, other: Subject) -> Subject:
        """Return the subject of a write that is both."""
        mine, its = self.standing, other.standing
        return self._replace(
            standing=standing((*mine.above, *its.above), (*mine.beside, *its.beside)),
            may_be_new=self.may_be_new and other.may_be_new,
            saved=self.saved or other.saved,
            ends=self.ends or other.ends,
        )


def own_subject(
    family: Family,
    model: type[Model],
    target: Target,
    *,
    may_be_new: bool = False,
    saved: Saved | None = None,
) -> Subject:
    """Return the subject for the row of ``target``, which is written as a row of ``model``."""
    known = family.standing(model)
    new = may_be_new or not known.above
    return Subject(target, known, family.own_roots, new, saved=saved)


# An instance ---------------------------------------------------------------------------------


def written_key(instance: Model, root: type[Model]) -> Any:
    """Return the key of the ``root`` row that a save of ``instance`` writes, ``None`` if unset.

    That is the root's own key attribute, or failing that the first link that leads to it, as
    ``Model._save_parents`` decides.
    """
    meta = root._meta
    if len(meta.pk_fields) > 1:
        values = tuple(getattr(instance, field.attname) for field in meta.pk_fields)
        return None if None in values else values
    if type(key := getattr(instance, meta.pk.attname)) is int:
        return key
    links = [meta.pk, *_links_to(type(instance), root)]
    found = (getattr(instance, field.attname) for field in links)
    key = next((value for value in found if value is not None), None)
    # What the database will fill in is the key of a new row; any other expression is no key.
    return None if isinstance(key, DatabaseDefault) and instance._state.adding else key


def _links_to(model: type[Model], root: type[Model]) -> list[Field[Any, Any]]:
    links: list[Field[Any, Any]] = []
    for parent, link in (model._meta.concrete_model or model)._meta.parents.items():
        if link is not None and issubclass(parent, root):
            links = [*_links_to(parent, root), link]
    return links


def stored_target(model: type[Model], pk: Any, using: str) -> Target:
    """Return the target of the row ``pk`` under the key as the database spells it.

    A collation may find the row "key" for "KEY" too, and it is that row which a write changes,
    so it is that row's lock which counts. Statements: 1 where keys may be spelt differently.
    """
    target = target_for(model, pk, using)
    if not has_loose_key(target.model, using):
        return target
    rows: QuerySet[Any] = QuerySet(target.model, using=using).filter(pk=pk)
    stored: Any = rows.values_list("pk", flat=True).first()
    return target if stored is None else target_for(target.model, stored, using)


@cache
def has_loose_key(model: type[Model], using: str) -> bool:
    """Tell whether different texts may be the same key: on MariaDB, and under a collation."""
    connection = connections[using]
    for field in model._meta.pk_fields:
        while field.remote_field is not None:
            field = field.target_field  # type: ignore[attr-defined]
        collation = field.db_parameters(connection).get("collation")
        if field.empty_strings_allowed and (connection.vendor == "mysql" or collation):
            return True
    return False


def row_name(instance: Model) -> str:
    """Return how an error names the row of ``instance``."""
    label = instance._meta.label
    return f"A new {label}" if instance.pk is None else f"{label} {instance.pk}"


# Rows ----------------------------------------------------------------------------------------


@dataclass
class Rows:
    """Rows that a write would change: their keys, and the subjects of changing them."""

    pks: list[Any]
    subjects: list[Subject]


def of_rows(
    queryset: QuerySet[Any, Any], using: str, *, own: bool = True, without: Sequence[Tie] = ()
) -> Rows:
    """Return the rows of ``queryset`` with all that protects them now.

    But for ties ``without``, and for the rows' own locks unless ``own``.

    Rows that are tied to others are locked, so that nobody moves them meanwhile. Statements: 1,
    and 1 more for each tie that is declared elsewhere or longer than one foreign key.
    """
    model = queryset.model
    families = families_of(model)
    ties = [tie for family in families for tie in family.ties if tie not in without]
    near = [tie for tie in ties if issubclass(model, tie.model)]
    if ties:
        keys = rows_with(model, _bare(queryset, using).values("pk"), using)
        queryset = keys.select_for_update().order_by("pk")
    columns = ["pk", *(key_lookup(model, family.root) for family in families)]
    columns += [_first_column(tie) for tie in near]
    found = list(_bare(queryset, using, ordered=bool(ties)).values_list(*columns))
    subjects: list[Subject] = []
    for index, family in enumerate(families, start=1):
        roots = [row[index] for row in found]
        if family.policies and own:
            targets = targets_for(family.root, roots, using)
            subjects += (own_subject(family, model, target) for target in targets)
        for tie in family.ties:
            if tie in near:
                column = 1 + len(families) + near.index(tie)
                subjects += _tied(tie, roots, [row[column] for row in found], using)
            elif tie not in without:
                subjects += _tied_elsewhere(tie, roots, using)
    return Rows([row[0] for row in found], subjects)


def rows_with(model: type[Model], pks: Any, using: str) -> QuerySet[Any]:
    """Return the rows of ``model`` with the keys ``pks``, whatever its managers leave out."""
    rows: QuerySet[Any] = QuerySet(model, using=using)
    return rows.filter(pk__in=pks)


def just(queryset: Any, rows: Rows) -> Any:
    """Return ``queryset`` without rows that came to it after ``rows`` were found."""
    if connections[queryset.db].vendor == "sqlite":
        # Nobody else can write meanwhile, and a statement has a limited number of parameters.
        return queryset
    return queryset.filter(pk__in=rows.pks)


def _bare(queryset: QuerySet[Any, Any], using: str, *, ordered: bool = False) -> Any:
    """Return ``queryset`` as the database that is written to would answer it."""
    rows = queryset.using(using)
    return rows if ordered else rows.order_by()


def key_lookup(model: type[Model], root: type[Model]) -> str:
    """Return the lookup of the key of the ``root`` row of a row of ``model``."""
    concrete = model._meta.concrete_model or model
    if root_of(concrete) is root:
        return "pk"
    for parent, link in concrete._meta.parents.items():
        if link is not None and issubclass(parent, root):
            rest = key_lookup(parent, root)
            return link.attname if rest == "pk" else f"{link.name}__{rest}"
    raise LookupError(f"{model._meta.label} has no row in {root._meta.label}.")


def _first_column(tie: Tie) -> str:
    return foreign_key(tie.model, tie.path[0]).attname


def _tied_elsewhere(tie: Tie, roots: Sequence[Any], using: str) -> list[Subject]:
    """Return the subjects of those rows with the keys ``roots`` that are rows of the tie too."""
    rows = rows_with(tie.model, roots, using).select_for_update().order_by("pk")
    found = list(rows.values_list("pk", _first_column(tie)))
    return _tied(tie, [pk for pk, _ in found], [value for _, value in found], using)


def _tied(tie: Tie, pks: Sequence[Any], values: Sequence[Any], using: str) -> list[Subject]:
    """Return the subjects of rows of ``tie`` by their keys and their first foreign keys."""
    ends = follow(tie.model, tie.path, values, using)
    found = []
    for pk, value in zip(pks, values, strict=True):
        end = ends.get(value)
        row = f"{tie.model._meta.label} {pk}"
        if end is not None:
            found.append(_tied_to(tie, end, using, row))
        elif tie.by_via:
            target = target_for(tie.model, pk, using)
            found.append(Subject(target, standing(tie.above), tie.roots))
    return found


def _tied_to(tie: Tie, end: Any, using: str, row: str) -> Subject:
    target = target_for(tie.protector, end, using)
    known = standing(tie.above, tie.beside)
    return Subject(target, known, tie.roots, not tie.above, protects=row)


def follow(
    model: type[Model], path: Sequence[str], values: Iterable[Any], using: str
) -> dict[Any, Any]:
    """Return the keys of the objects where ``path`` ends, by the ``values`` of its first part.

    Rows on the way are locked, so that the way stays the same. Statements: 0, and 1 for each
    step that the values themselves do not tell.
    """
    wanted = {value for value in values if value is not None}
    first = foreign_key(model, path[0])
    known, there = first.target_field, first.related_model
    is_key = known.primary_key and not has_loose_key(there, using)
    if not wanted or (len(path) == 1 and is_key):
        return {value: value for value in wanted}
    column = foreign_key(there, path[1]).attname if path[1:] else "pk"
    steps = _step(QuerySet(there, using=using), known, column, wanted)
    if not path[1:]:
        return steps
    rest = follow(there, path[1:], steps.values(), using)
    return {value: rest.get(step) for value, step in steps.items()}


def _step(
    rows: QuerySet[Any], known: Field[Any, Any], column: str, wanted: set[Any]
) -> dict[Any, Any]:
    """Return ``column`` of the rows whose ``known`` field is one of ``wanted``, by these."""
    locked = rows.select_for_update().order_by("pk")
    found = locked.filter(**{f"{known.name}__in": wanted}).values_list(known.attname, column)
    steps = dict(found)
    by_text = {str(value): step for value, step in found}
    for value in wanted - steps.keys():
        if str(value) in by_text:
            steps[value] = by_text[str(value)]
        elif rest := locked.filter(**{known.name: value}).values_list(column)[:1]:
            # As a collation finds it, or a field reads it.
            steps[value] = rest[0][0]
    return steps


# New values ----------------------------------------------------------------------------------


def of_values(
    model: type[Model], values: Iterable[tuple[str, dict[str, Any]]], using: str
) -> Iterator[Subject]:
    """Yield what protects the rows that get ``values``: foreign keys by their attribute names.

    Each comes with the name of the row. Statements: as ``follow``.
    """
    rows = list(values)
    for family in families_of(model):
        for tie in family.ties:
            if not issubclass(model, tie.model):
                continue
            column = _first_column(tie)
            given = [(row, new[column]) for row, new in rows if column in new]
            for row, value in given:
                if hasattr(value, "resolve_expression"):
                    _refuse_unknown(tie, model, row, column, using)
            given = [each for each in given if not hasattr(each[1], "resolve_expression")]
            ends = follow(tie.model, tie.path, [value for _, value in given], using)
            for row, value in given:
                if (end := ends.get(value)) is not None:
                    yield _tied_to(tie, end, using, row)


def _refuse_unknown(tie: Tie, model: type[Model], row: str, column: str, using: str) -> None:
    error = LockRequired(
        f"{row} was not written: {column} is an expression, so it cannot be known whose lock "
        "protects the row afterwards; assign the object itself.",
        model_label=model._meta.label,
    )
    only = strictest((*tie.above, *tie.beside)).report_only
    refuse([Refusal(error, root_of(model), None, using, only)])


def attribute_values(model: type[Model], values: dict[str, Any]) -> dict[str, Any]:
    """Return ``values``, of fields by name, by the attribute names of the fields."""
    found = {}
    for name, value in values.items():
        field: Any = model._meta.pk if name == "pk" else model._meta.get_field(name)
        if isinstance(value, Model) and field.remote_field is not None:
            value = getattr(value, field.target_field.attname)
        found[getattr(field, "attname", name)] = value
    return found


def tied_values(instance: Model, fields: Iterable[str] | None = None) -> dict[str, Any]:
    """Return the foreign keys that tie ``instance`` to others, as far as a save writes them.

    ``fields`` are the names of those that it writes, all if ``None``.
    """
    model = type(instance)
    ties = [tie for family in families_of(model) for tie in family.ties]
    if not ties:
        return {}
    keys = [foreign_key(tie.model, tie.path[0]) for tie in ties if issubclass(model, tie.model)]
    deferred = instance.get_deferred_fields()
    return {
        key.attname: getattr(instance, key.attname)
        for key in keys
        if key.attname not in deferred
        and (fields is None or not {key.name, key.attname}.isdisjoint(fields))
    }
