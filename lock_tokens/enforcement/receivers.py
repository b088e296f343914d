"""The wiring: what is wrapped, watched and guarded while models are enforced.

Saves and deletes are wrapped. The signals are the second line, for writes that reach the rows by
other roads: a cascade that starts in a ``delete`` of the project's own, an explicit
``Model.save_base``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from django.apps import apps
from django.db.models import Model
from django.db.models.signals import (
    ModelSignal,
    class_prepared,
    post_delete,
    pre_delete,
    pre_save,
)

from lock_tokens import locking, settings
from lock_tokens.checks import check_settings
from lock_tokens.enforcement import context, guard
from lock_tokens.enforcement.deletes import guarded_delete, judge_delete
from lock_tokens.enforcement.managers import forget_related_managers, guard_managers
from lock_tokens.enforcement.policy import families, families_of, forget, set_problems
from lock_tokens.enforcement.reach import classes_under, reaching
from lock_tokens.enforcement.saves import Save, guarded_save_base
from lock_tokens.models import LockableModel
from lock_tokens.targets import root_of, target_for

WIRED = "lock_tokens.enforcement"


def judge_signalled_save(
    instance: Model, using: str, raw: bool, update_fields: Any = None, **kwargs: Any
) -> None:
    """Receive ``pre_save``: judge a save that did not come through the wrapped ``save_base``."""
    if not raw and not _is_free(instance, using):
        Save(instance, using, False, False, update_fields).judge()


def judge_signalled_delete(instance: Model, using: str, **kwargs: Any) -> None:
    """Receive ``pre_delete``: judge a delete that did not come through the wrapped ``delete``."""
    if not _is_free(instance, using):
        judge_delete(instance, using)


def _is_free(instance: Model, using: str) -> bool:
    """Tell whether a write that is signalled needs no judgement, or has had it."""
    if id(instance) in context.current().judged:
        return True
    families = families_of(type(instance))
    if guard.is_off(families):
        return True
    if any(family.ties for family in families):
        guard.require_transaction(type(instance)._meta.label, instance.pk, using)
    return False


def remove_lock_of_deleted(instance: Model, using: str, **kwargs: Any) -> None:
    """Receive ``post_delete``: the lock goes with its object, the next one with its key is free."""
    if id(instance) in context.current().judged:
        return
    try:
        target = target_for(type(instance), instance.pk, using)
    except ValueError:
        # A key that cannot be locked left no lock.
        return
    locking.remove(target)


def _watch(signal: ModelSignal, receiver: Callable[..., Any], model: type[Model]) -> None:
    signal.connect(receiver, sender=model, dispatch_uid=f"{WIRED}.{model._meta.label}")
    _undo.append(
        lambda: signal.disconnect(sender=model, dispatch_uid=f"{WIRED}.{model._meta.label}")
    )


def _wrap(model: type[Model], name: str, wrapper: Callable[..., Any]) -> None:
    original = model.__dict__.get(name)
    setattr(model, name, wrapper(model, original))
    if original is None:
        _undo.append(lambda: delattr(model, name))
    else:
        _undo.append(lambda: setattr(model, name, original))


_undo: list[Callable[[], Any]] = []


def connect() -> None:
    """Guard the enforced models of the current settings, and no other."""
    disconnect()
    problems = [str(message.msg) for message in check_settings() if message.is_serious()]
    if problems:
        _refuse_everything(problems)
        return
    guarded = set(families())
    feeding = reaching(guarded) - guarded if guarded else set()
    for root in guarded:
        _wrap(root, "save_base", guarded_save_base)
    for root in guarded | feeding:
        _wrap(root, "delete", guarded_delete)
    for model in classes_under(guarded):
        if not model._meta.auto_created:
            _watch(pre_save, judge_signalled_save, model)
            _watch(pre_delete, judge_signalled_delete, model)
    for model in classes_under(guarded | feeding):
        _guard_managers(model)
    for model in _deletable_locks():
        _watch(post_delete, remove_lock_of_deleted, model)
    if guarded:
        class_prepared.connect(guard_late_class, dispatch_uid=WIRED)
        _undo.append(partial(class_prepared.disconnect, dispatch_uid=WIRED))
        _forget_related_managers()
        _undo.append(_forget_related_managers)


def guard_late_class(sender: type[Model], **kwargs: Any) -> None:
    """Receive ``class_prepared``: a proxy or child of a guarded model may be made at any time."""
    if issubclass(sender, tuple(families())):
        _guard_managers(sender)


def _guard_managers(model: type[Model]) -> None:
    if undo := guard_managers(model):
        _undo.append(undo)


def _forget_related_managers() -> None:
    forget_related_managers(apps.get_models(include_auto_created=True))


def _refuse_everything(problems: list[str]) -> None:
    """Let no object be written until the settings say what is enforced.

    The system checks report the problems too, but a task worker runs no checks.
    """
    set_problems(problems)
    _undo.append(partial(set_problems, ()))

    def refuse(raw: bool = False, **kwargs: Any) -> None:
        if not raw:
            families()

    for signal in (pre_save, pre_delete):
        signal.connect(refuse, weak=False, dispatch_uid=WIRED)
        _undo.append(partial(signal.disconnect, dispatch_uid=WIRED))
    for model in apps.get_models(include_auto_created=True):
        _guard_managers(model)
        if model._meta.auto_created:
            # Django sends no signals for these.
            _wrap(model, "save_base", guarded_save_base)
            _wrap(model, "delete", guarded_delete)
    _forget_related_managers()
    _undo.append(_forget_related_managers)


def _deletable_locks() -> Iterator[type[Model]]:
    """Yield the models whose locks are known to be used: enforced, lockable or open to the API."""
    opened = settings.current.API_MODELS
    labels = {label.lower() for label in opened} if isinstance(opened, (list, tuple)) else set()
    roots = {root for root, family in families().items() if family.has_locks}
    for model in apps.get_models():
        if issubclass(model, LockableModel) or model._meta.label_lower in labels:
            roots.add(root_of(model))
    for model in apps.get_models():
        if model._meta.concrete_model in roots:
            yield model


def disconnect() -> None:
    """Take every guard away again, and forget what was enforced."""
    while _undo:
        _undo.pop()()
    forget()


def reconnect(*, setting: str, **kwargs: Any) -> None:
    """Receive ``setting_changed``, which Django sends when tests override settings."""
    if setting in {"LOCK_TOKENS", "INSTALLED_APPS"}:
        connect()
