"""System checks of what enforcement cannot cover in this project."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.core.checks import CheckMessage, Warning
from django.db import connections, router
from django.db.models import Model

from lock_tokens.checks import check_settings
from lock_tokens.enforcement.managers import GuardedOptions
from lock_tokens.enforcement.policy import families
from lock_tokens.enforcement.querysets import GuardedQuerySet
from lock_tokens.enforcement.reach import classes_under, is_by_database
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.targets import root_of


def check_roads(**kwargs: Any) -> list[CheckMessage]:
    """Warn, for each guarded model, of roads to its rows that are not covered (W004 to W007)."""
    if any(message.is_serious() for message in check_settings()):
        return []
    guarded = list(classes_under(families()))
    lockable = (m for m in apps.get_models() if issubclass(m, LockableModel) and m not in guarded)
    found = [message for model in guarded for message in _uncovered(model)]
    return found + [message for model in lockable for message in _check_lockable(model)]


def _uncovered(model: type[Model]) -> Iterator[CheckMessage]:
    yield from _check_save_base(model)
    yield from _check_managers(model)
    if not model._meta.proxy:
        yield from _check_databases(model, "enforced", "written")
        yield from _check_deletions(model)


def _check_save_base(model: type[Model]) -> Iterator[CheckMessage]:
    """The guard stands in the root's ``save_base``, so a child's own may go round it."""
    if "save_base" in vars(model) and model is not root_of(model):
        yield Warning(
            f"{model._meta.label} has a save_base() of its own, which is guarded only if it calls "
            "super().save_base().",
            hint="Override save() instead, or make sure that it does.",
            obj=model,
            id="lock_tokens.W004",
        )


def _check_managers(model: type[Model]) -> Iterator[CheckMessage]:
    meta: Any = model._meta
    for manager in (*meta.managers, meta.base_manager):
        if not _is_guarded(meta, manager):
            yield Warning(
                f"The querysets of {model._meta.label}.{manager.name} are not guarded.",
                hint="Let its get_queryset() return an instance of a subclass of QuerySet.",
                obj=model,
                id="lock_tokens.W005",
            )


def _is_guarded(meta: Any, manager: Any) -> bool:
    if not isinstance(meta, GuardedOptions):
        return False
    try:
        return isinstance(manager.get_queryset(), GuardedQuerySet)
    except Exception:
        # Some need a request or a tenant at hand; what they return then is guarded.
        return True


def _check_lockable(model: type[Model]) -> Iterator[CheckMessage]:
    if not model._meta.proxy:
        yield from _check_databases(model, "lockable", "locked")


def _check_databases(model: type[Model], kind: str, done: str) -> Iterator[CheckMessage]:
    """A lock lives beside its object."""
    for alias in connections:
        here = router.allow_migrate_model(alias, model)
        if here and not all(router.allow_migrate_model(alias, m) for m in (LockToken, ContentType)):
            yield Warning(
                f"{model._meta.label} is {kind}, but the database {alias!r} has no table of "
                f"locks: nothing that is there can be {done}.",
                hint="Let your database routers migrate lock_tokens and contenttypes there too.",
                obj=model,
                id="lock_tokens.W006",
            )


def _check_deletions(model: type[Model]) -> Iterator[CheckMessage]:
    for field in model._meta.local_fields:
        on_delete = getattr(field.remote_field, "on_delete", None)
        if is_by_database(on_delete):
            yield Warning(
                f"{model._meta.label}.{field.name} leaves it to the database what is done when "
                f"the other object is deleted ({on_delete}), which is not guarded.",
                hint="Use the action of the same name without DB_.",
                obj=model,
                id="lock_tokens.W007",
            )
