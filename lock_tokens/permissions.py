"""Who may lock what through the REST API.

A permission is a function of the request, the action (``"lock"``, ``"status"``, ``"read"``,
``"renew"`` or ``"release"``) and the object; ``API_PERMISSION`` names the one in force.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.apps import apps
from django.contrib.auth import get_permission_codename
from django.db.models import Model
from django.http import HttpRequest

from lock_tokens import settings
from lock_tokens.models import LockableModel


def default(request: HttpRequest, action: str, obj: Model) -> bool:
    """Allow anyone what was opened on purpose, and the rest to those who may change the object."""
    return is_open(type(obj)) or can_change_object(request, action, obj)


def is_authenticated(request: HttpRequest, action: str, obj: Model) -> bool:
    """Allow everybody who is logged in."""
    return _user(request) is not None


def can_change_object(request: HttpRequest, action: str, obj: Model) -> bool:
    """Allow those who have the change permission, on the model or on this object."""
    return _has_permission(request, "change", obj)


def can_see_object(request: HttpRequest, obj: Model) -> bool:
    """Tell whether a refused user may at least know that the object exists."""
    return any(_has_permission(request, name, obj) for name in ("view", "change"))


def _user(request: HttpRequest) -> Any:
    user = getattr(request, "user", None)
    return user if user is not None and user.is_authenticated else None


def _has_permission(request: HttpRequest, name: str, obj: Model) -> bool:
    user = _user(request)
    if user is None:
        return False
    meta = (obj._meta.concrete_model or type(obj))._meta
    permission = f"{meta.app_label}.{get_permission_codename(name, meta)}"
    return bool(user.has_perm(permission) or user.has_perm(permission, obj))


def is_open(model: type[Model]) -> bool:
    """Tell whether ``model`` was opened to everybody: a LockableModel, or named in API_MODELS."""
    return issubclass(model, LockableModel) or _named(model, settings.current.API_MODELS)


def is_lockable(model: type[Model]) -> bool:
    """Tell whether the REST API may lock objects of ``model`` at all, by API_MODELS."""
    opened = settings.current.API_MODELS
    if opened is not None:
        return opened == "__all__" or _named(model, opened)
    return (
        issubclass(model, LockableModel)
        or _named(model, settings.current.ENFORCED_MODELS)
        or _is_kind_of(model, _in_admin())
    )


def _in_admin() -> Iterator[type[Model]]:
    """Yield the models that some admin site edits under a lock."""
    if not apps.is_installed("django.contrib.admin"):
        return
    # Neither can be imported where the admin is not installed.
    from django.contrib.admin.sites import all_sites

    from lock_tokens.admin import LockableModelAdmin

    for site in all_sites:
        for model, model_admin in site._registry.items():
            if isinstance(model_admin, LockableModelAdmin):
                yield model


def _named(model: type[Model], labels: Any) -> bool:
    """Tell whether ``labels`` name ``model``, a proxy of it or a multi-table parent."""
    if labels is None or isinstance(labels, str):
        return False
    return _is_kind_of(model, filter(None, map(_installed, labels)))


def _is_kind_of(model: type[Model], others: Iterable[type[Model]]) -> bool:
    """Tell whether ``model`` is one of ``others``, a proxy of it or a child."""
    return any(issubclass(model, other._meta.concrete_model or other) for other in others)


def _installed(label: str) -> type[Model] | None:
    try:
        return apps.get_model(label)
    except LookupError:
        # A label of no installed model is for the system checks.
        return None
