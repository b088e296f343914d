"""Who may lock what through the REST API.

A permission is a function of the request, the action (``"lock"``, ``"status"``, ``"read"``,
``"renew"`` or ``"release"``) and the object; ``API_PERMISSION`` names the one in force.
"""

from __future__ import annotations

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
    if opened is None:
        return issubclass(model, LockableModel) or _named(model, settings.current.ENFORCED_MODELS)
    return opened == "__all__" or _named(model, opened)


def _named(model: type[Model], labels: Any) -> bool:
    """Tell whether ``labels`` name ``model``, a proxy of it or a multi-table parent."""
    if labels is None or isinstance(labels, str):
        return False
    return any(issubclass(model, named) for named in map(_concrete, labels) if named)


def _concrete(label: str) -> type[Model] | None:
    try:
        model = apps.get_model(label)
    except LookupError:
        # A label of no installed model is for the system checks.
        return None
    return model._meta.concrete_model or model
