"""Managers of enforced models hand out querysets that ask the guard.

They get a derived class whenever Django computes the managers of a model. Django derives its
related managers from the default manager's class, so these are guarded too.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable
from functools import cache, wraps
from typing import Any

from django.db import router
from django.db.models import Model
from django.db.models.fields.related_descriptors import ReverseManyToOneDescriptor
from django.db.models.manager import BaseManager
from django.db.models.options import Options
from django.utils.functional import cached_property

from lock_tokens.enforcement import guard
from lock_tokens.enforcement.blocks import suspended
from lock_tokens.enforcement.policy import families_of
from lock_tokens.enforcement.querysets import guarded, named_like
from lock_tokens.enforcement.transactions import whole


class GuardedManager(BaseManager[Any]):
    """What the managers of guarded models are besides."""

    # The class that the manager has in the project's code.
    plain: type[BaseManager[Any]]

    def get_queryset(self) -> Any:
        return guarded(super().get_queryset())

    # Migrations compare managers and write them down: to them this is the plain one.
    def __eq__(self, other: object) -> bool:
        if isinstance(other, GuardedManager):
            return type(self) is type(other) and _arguments(self) == _arguments(other)
        return type(other) is self.plain and _arguments(self) == _arguments(other)

    __hash__ = BaseManager.__hash__

    def deconstruct(self) -> Any:
        plain = copy.copy(self)
        plain.__class__ = self.plain  # type: ignore[assignment]
        return plain.deconstruct()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let the methods of a related manager, which is such a subclass, do all or nothing."""
        super().__init_subclass__(**kwargs)
        for name in RELATED_METHODS & set(vars(cls)):
            setattr(cls, name, _whole(vars(cls)[name]))
        # Django 6.1 sets them by set_base().
        for name in {"set", "set_base"} & set(vars(cls)):
            setattr(cls, name, _passing_fixtures(vars(cls)[name]))


RELATED_METHODS = {
    "add",
    "clear",
    "create",
    "get_or_create",
    "remove",
    "set",
    "update_or_create",
}


def _arguments(manager: Any) -> Any:
    return manager._constructor_args


def _whole(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def changed(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Of a many-to-many relation, it is the rows between the two models that change.
        model = getattr(self, "through", None) or self.model
        if guard.is_off(families_of(model)):
            return method(self, *args, **kwargs)
        with whole(self._db or router.db_for_write(model, instance=self.instance)):
            return method(self, *args, **kwargs)

    return changed


def _passing_fixtures(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let deserialized objects set their relations: only the rest of them is saved as raw."""

    @wraps(method)
    def changed(self: Any, *args: Any, **kwargs: Any) -> Any:
        if sys._getframe(1).f_globals.get("__name__") != "django.core.serializers.base":
            return method(self, *args, **kwargs)
        with suspended(reason="a fixture is loaded"):
            return method(self, *args, **kwargs)

    return changed


@cache
def guarded_manager_class(plain: type[BaseManager[Any]]) -> type[BaseManager[Any]]:
    """Return a class that is ``plain`` in all but that its querysets ask the guard."""
    attributes = {**named_like(plain), "plain": plain}
    return type(plain.__name__, (GuardedManager, plain), attributes)


# It takes no type argument when it runs.
class GuardedOptions(Options):  # type: ignore[type-arg]
    """The ``_meta`` of a guarded model: whoever asks it for a manager gets a guarded one."""

    @cached_property
    def managers(self) -> Any:
        found = Options.managers.func(self)  # type: ignore[attr-defined]
        for manager in found:
            _guard_manager(manager)
        return found

    @cached_property
    def base_manager(self) -> Any:
        return _guard_manager(Options.base_manager.func(self))  # type: ignore[attr-defined]


def _guard_manager(manager: Any) -> Any:
    if not isinstance(manager, GuardedManager):
        plain: Any = type(manager)
        manager.__class__ = guarded_manager_class(plain)
    return manager


def guard_managers(model: type[Model]) -> Callable[[], None] | None:
    """Give ``model`` guarded managers; return what undoes it."""
    meta: Any = model._meta
    if isinstance(meta, GuardedOptions):
        return None
    plain: Any = type(meta)
    meta.__class__ = GuardedOptions if plain is Options else _options_class(plain)
    meta._expire_cache(reverse=False)

    def undo() -> None:
        meta.__class__ = plain
        meta._expire_cache(reverse=False)

    return undo


@cache
def _options_class(plain: type[Any]) -> Any:
    """Return the class for a model whose ``_meta`` is of a class of its own."""
    return type(plain.__name__, (GuardedOptions, plain), {})


def forget_related_managers(models: Iterable[type[Model]]) -> None:
    """Let Django derive the related managers of ``models`` anew."""
    for model in models:
        for attribute in vars(model).values():
            if isinstance(attribute, ReverseManyToOneDescriptor):
                vars(attribute).pop("related_manager_cls", None)
