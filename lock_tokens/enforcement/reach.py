"""Whose deletion reaches enforced rows: by a cascade, or because they refer to it no longer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from django.apps import apps
from django.db.models import DO_NOTHING, PROTECT, RESTRICT, Model

from lock_tokens.targets import root_of

# What keeps rows from being deleted, or leaves those that refer to them alone. The database's own
# actions are out of Django's sight.
UNREACHED = (DO_NOTHING, PROTECT, RESTRICT)
# What changes rows, but does not delete them, so that it ends there.
CHANGES = ("SET_NULL", "SET_DEFAULT", "set_on_delete")


def reaching(roots: Iterable[type[Model]]) -> set[type[Model]]:
    """Return the roots of the models whose deletion deletes or changes rows under ``roots``."""
    referred = _references()
    found: set[type[Model]] = set()
    todo = {(root, True) for root in roots}
    while todo:
        root, changed = todo.pop()
        for other, cascades in referred[root]:
            if (cascades or changed) and other not in found:
                found.add(other)
                todo.add((other, False))
    return found


def classes_under(roots: Iterable[type[Model]]) -> Iterator[type[Model]]:
    """Yield every class whose saves or deletes touch the tables under ``roots``."""
    under = tuple(roots)
    for model in apps.get_models(include_auto_created=True):
        if issubclass(model, under):
            yield model


def _references() -> dict[type[Model], set[tuple[type[Model], bool]]]:
    """Return, for each root, the roots it refers to, and whether their deletion cascades to it."""
    found: dict[type[Model], set[tuple[type[Model], bool]]] = defaultdict(set)
    for model in apps.get_models(include_auto_created=True):
        for field in model._meta.local_fields:
            found[root_of(model)].update(_reached_through(field))
        for field in model._meta.private_fields:
            # A generic relation: whoever has it deletes what is related.
            if hasattr(field, "bulk_related_objects"):
                found[root_of(field.related_model)].add((root_of(model), True))
    return found


def _reached_through(field: Any) -> Iterator[tuple[type[Model], bool]]:
    on_delete = getattr(field.remote_field, "on_delete", None)
    name = getattr(on_delete, "__name__", "")
    if on_delete is not None and on_delete not in UNREACHED and not is_by_database(on_delete):
        yield root_of(field.related_model), name not in CHANGES


def is_by_database(on_delete: Any) -> bool:
    """Tell whether the database itself deletes or changes what refers to a deleted row."""
    return getattr(on_delete, "__name__", "").startswith("DB_")
