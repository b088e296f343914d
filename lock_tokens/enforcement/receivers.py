"""Saves and deletes of enforced models ask the guard, in the transaction of their write.

Django sends ``pre_save`` before it opens a transaction, so ``save_base`` and ``delete`` of the
enforced families are wrapped: the transaction is opened first, then the guard is asked, then
Django goes on. The signals are the second line, for writes that reach the rows by other roads
(a cascade, an explicit ``Model.save_base``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial, wraps
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import router, transaction
from django.db.models import Model
from django.db.models.signals import ModelSignal, post_delete, pre_delete, pre_save

from lock_tokens import locking, settings
from lock_tokens.checks import check_settings
from lock_tokens.enforcement import context, guard
from lock_tokens.enforcement.policy import families, families_of
from lock_tokens.models import LockableModel
from lock_tokens.targets import Target, root_of, target_for

WIRED = "lock_tokens.enforcement"


def _transaction(using: str) -> AbstractContextManager[Any]:
    """Return a transaction if there is none yet.

    Inside an outer one a refusal must not pass through an ``atomic``, which would leave the
    outer transaction unusable.
    """
    connection = transaction.get_connection(using)
    if connection.in_atomic_block or not connection.get_autocommit():
        return nullcontext()
    return transaction.atomic(using=using)


def _proceed(
    model: type[Model], instance: Model, name: str, original: Callable[..., Any] | None
) -> Callable[..., Any]:
    """Return the method ``name`` of ``instance`` as it would be had ``model`` not been wrapped."""
    return partial(original, instance) if original else getattr(super(model, instance), name)


def _save_base(model: type[Model], original: Callable[..., Any] | None) -> Callable[..., Any]:
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
        proceed = _proceed(model, self, "save_base", original)
        if raw:
            proceed(raw, force_insert, force_update, using, update_fields)
            return
        with _transaction(using):
            force_insert, judged = _judge_save(
                self, using, force_insert, force_update, update_fields
            )
            with context.judging([id(self), *judged]):
                proceed(raw, force_insert, force_update, using, update_fields)

    return save_base


def _judge_save(
    instance: Model, using: str, force_insert: Any, force_update: bool, update_fields: Any
) -> tuple[Any, list[Target]]:
    """Ask the guard about each object a save would change; return its ``force_insert``.

    Only an insert is allowed without a token, so it is made sure that it will be one: where
    Django would try an update first, somebody else may have created the row since we looked.
    """
    inserts = instance._state.adding and not (force_update or update_fields is not None)
    judged = []
    for family in families_of(type(instance)):
        if _is_forced(instance, family.root, force_insert):
            continue
        if inserts and _has_generated_key(family.root):
            # Django does not look for the row either.
            force_insert = _forced_too(force_insert, family.root)
            continue
        subject = guard.subject_of(instance, family, using, may_be_new=inserts)
        if subject is None or subject.policy.exempts(update_fields):
            continue
        if guard.judge(subject) and subject.above:
            force_insert = _forced_too(force_insert, subject.above[-1].model)
        judged.append(subject.target)
    return force_insert, judged


def _has_generated_key(model: type[Model]) -> bool:
    return all(field.has_default() or field.has_db_default() for field in model._meta.pk_fields)


def _forced_too(force_insert: Any, model: type[Model]) -> tuple[type[Model], ...]:
    """Return ``force_insert`` for the rows of ``model`` and its children too."""
    return (*force_insert, model) if isinstance(force_insert, tuple) else (model,)


def _is_forced(instance: Model, root: type[Model], force_insert: Any) -> bool:
    """Tell whether ``force_insert`` is for the ``root`` row too, not just for a child's."""
    if isinstance(force_insert, tuple):
        return issubclass(root, force_insert)
    return bool(force_insert) and type(instance)._meta.concrete_model is root


def _delete(model: type[Model], original: Callable[..., Any] | None) -> Callable[..., Any]:
    @wraps(original or model.delete)
    def delete(self: Model, *args: Any, **kwargs: Any) -> Any:
        # A delete of the model's own may have other arguments; the first of Django's is using.
        named = kwargs.get("using", args[0] if args else None)
        using = named if isinstance(named, str) else router.db_for_write(type(self), instance=self)
        proceed = _proceed(model, self, "delete", original)
        with _transaction(using), context.judging(_judge_delete(self, using)):
            return proceed(*args, **kwargs)

    return delete


def _judge_delete(instance: Model, using: str) -> list[Target]:
    judged = []
    for family in families_of(type(instance)):
        adding = instance._state.adding
        subject = guard.subject_of(instance, family, using, may_be_new=adding)
        if subject is not None:
            guard.judge(subject)
            judged.append(subject.target)
    return judged


def judge_signalled_save(
    instance: Model, using: str, raw: bool, update_fields: Any = None, **kwargs: Any
) -> None:
    """Receive ``pre_save``: judge a save that did not come through the wrapped ``save_base``."""
    if raw or id(instance) in context.current().judged:
        return
    may_be_new = instance._state.adding and update_fields is None
    for family in families_of(type(instance)):
        subject = guard.subject_of(instance, family, using, may_be_new=may_be_new)
        if subject is not None and not subject.policy.exempts(update_fields):
            guard.judge(subject)


def judge_signalled_delete(instance: Model, using: str, **kwargs: Any) -> None:
    """Receive ``pre_delete``: judge a delete that did not come through the wrapped ``delete``."""
    _judge_delete(instance, using)


def remove_lock_of_deleted(instance: Model, using: str, **kwargs: Any) -> None:
    """Receive ``post_delete``: the lock goes with its object, the next one with its key is free."""
    try:
        target = target_for(type(instance), instance.pk, using)
    except ValueError:
        # A key that cannot be locked left no lock.
        return
    locking.remove(target)


def _classes_of(root: type[Model]) -> Iterator[type[Model]]:
    """Yield every class whose saves or deletes touch the tables under ``root``."""
    for model in apps.get_models(include_auto_created=True):
        if issubclass(model, root):
            yield model


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
    for root in families():
        _wrap(root, "save_base", _save_base)
        _wrap(root, "delete", _delete)
        for model in _classes_of(root):
            _watch(pre_save, judge_signalled_save, model)
            _watch(pre_delete, judge_signalled_delete, model)
    for model in _deletable_locks():
        _watch(post_delete, remove_lock_of_deleted, model)


def _refuse_everything(problems: list[str]) -> None:
    """Let no object be saved or deleted until the settings say what is enforced.

    The system checks report the problems too, but a task worker runs no checks.
    """

    def refuse(raw: bool = False, **kwargs: Any) -> None:
        if not raw:
            raise ImproperlyConfigured(f"Nothing can be written: {' '.join(problems)}")

    for signal in (pre_save, pre_delete):
        signal.connect(refuse, weak=False, dispatch_uid=WIRED)
        _undo.append(partial(signal.disconnect, dispatch_uid=WIRED))


def _deletable_locks() -> Iterator[type[Model]]:
    """Yield the models whose locks are known to be used: enforced, lockable or open to the API."""
    opened = settings.current.API_MODELS
    labels = {label.lower() for label in opened} if isinstance(opened, (list, tuple)) else set()
    roots = set(families())
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
    families.cache_clear()


def reconnect(*, setting: str, **kwargs: Any) -> None:
    """Receive ``setting_changed``, which Django sends when tests override settings."""
    if setting in {"LOCK_TOKENS", "INSTALLED_APPS"}:
        connect()
