"""What admin pages say of many locks: whose they are, on what, and where that is edited."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from django.apps import apps
from django.contrib.admin import AdminSite
from django.contrib.admin.utils import quote
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.text import capfirst
from django.utils.translation import gettext

from lock_tokens import locking, settings
from lock_tokens.models import LockToken
from lock_tokens.targets import key_for, root_of

# What fields raise for text that is no key of theirs.
NOT_A_KEY = (ValidationError, ArithmeticError, TypeError, ValueError)


class Description(NamedTuple):
    """What the pages say of a lock, found for all locks of a page at once."""

    object: str
    url: str | None
    holder: str | None
    # The object itself, None if it is gone.
    locked: Model | None


def describe(
    site: AdminSite, request: HttpRequest, locks: Sequence[LockToken]
) -> dict[int, Description]:
    """Return the description of each of ``locks``, which are in one database, by its id.

    Statements: 1 for the names of the holders, and 1 for each model that was locked; 1 more
    for each child model, where only children of it are registered in ``site``.
    """
    holders = _holders(locks)
    by_type: dict[ContentType, list[LockToken]] = defaultdict(list)
    for lock in locks:
        by_type[lock.locked_object_content_type].append(lock)
    found = {}
    for content_type, group in by_type.items():
        objects = _objects(site, content_type, group)
        for lock in group:
            obj = objects.get(lock.locked_object_id)
            text, url = _link(site, request, lock, obj)
            found[lock.pk] = Description(text, url, holders.get(lock.locked_by_id), obj)
    return found


def _holders(locks: Iterable[LockToken]) -> dict[Any, str]:
    keys = {lock.locked_by_id for lock in locks if lock.locked_by_id is not None}
    return locking.user_names(keys) if keys and settings.current.SHOW_HOLDER else {}


def model_of(content_type: ContentType) -> type[Model] | None:
    """Return the model that has a table, ``None`` when it is not installed."""
    model = content_type.model_class()
    return None if model is None or model._meta.swapped else model


def _objects(
    site: AdminSite, content_type: ContentType, locks: Sequence[LockToken]
) -> dict[str, Model]:
    """Return the objects of ``locks``, all on one model, by the keys under which they are locked.

    Each is of a class that ``site`` has a page for, if there is one.
    """
    root = model_of(content_type)
    found: dict[str, Model] = {}
    if root is not None:
        keys = {lock.locked_object_id for lock in locks}
        for model in _classes(site, root):
            pks = list(_parsed(root, keys - found.keys()))
            for obj in model._base_manager.using(locks[0]._state.db).filter(pk__in=pks):
                found.setdefault(key_for(root, obj.pk), obj)
    return found


def _classes(site: AdminSite, root: type[Model]) -> list[type[Model]]:
    """Return the classes in which to look for rows of ``root``: those registered, then itself."""
    kin = [m for m in apps.get_models() if site.is_registered(m) and root_of(m) is root]
    same = [m for m in kin if m._meta.concrete_model is root]
    return sorted(same, key=lambda m: m is not root)[:1] or [*kin, root]


def _parsed(root: type[Model], keys: Iterable[str]) -> Iterable[Any]:
    for key in keys:
        # No object has a key that is none, so it will be missing.
        with suppress(*NOT_A_KEY):
            yield root._meta.pk.to_python(key)


def _link(
    site: AdminSite, request: HttpRequest, lock: LockToken, obj: Model | None
) -> tuple[str, str | None]:
    """Return the name of what is locked, and the address of its page if ``request`` may see it."""
    model = model_of(lock.locked_object_content_type)
    if model is None:
        content_type = lock.locked_object_content_type
        name = f"{content_type.app_label}.{content_type.model} {lock.locked_object_id}"
        return gettext("%(object)s (its model is not installed)") % {"object": name}, None
    name = capfirst(f"{model._meta.verbose_name} {lock.locked_object_id}")
    if obj is None:
        return gettext("%(object)s (does not exist any more)") % {"object": name}, None
    if not site.is_registered(type(obj)):
        return name, None
    if not site.get_model_admin(type(obj)).has_view_permission(request, obj):
        return name, None
    return capfirst(f"{obj._meta.verbose_name}: {obj}"), _change_page(site, obj)


def _change_page(site: AdminSite, obj: Model) -> str | None:
    name = f"{site.name}:{obj._meta.app_label}_{obj._meta.model_name}_change"
    try:
        return reverse(name, args=[quote(obj.pk)], current_app=site.name)
    except NoReverseMatch:
        return None
