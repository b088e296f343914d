"""A delete asks the guard, in the transaction of its write."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.db import router
from django.db.models import Model

from lock_tokens.enforcement import context, guard, subjects
from lock_tokens.enforcement.collector import GuardedCollector
from lock_tokens.enforcement.policy import families_of
from lock_tokens.enforcement.saves import unwrapped
from lock_tokens.enforcement.subjects import Subject
from lock_tokens.enforcement.transactions import transaction_for, whole


def guarded_delete(model: type[Model], original: Callable[..., Any] | None) -> Callable[..., Any]:
    """Return the ``delete`` that ``model`` gets in place of ``original``, if it has its own."""

    @wraps(original or model.delete)
    def delete(self: Model, *args: Any, **kwargs: Any) -> Any:
        # A delete of the model's own may have other arguments; the first of Django's is using.
        named = kwargs.get("using", args[0] if args else None)
        using = named if isinstance(named, str) else router.db_for_write(type(self), instance=self)
        proceed = unwrapped(model, self, "delete", original)
        stored: bool = self._is_pk_set()  # type: ignore[attr-defined]
        if getattr(proceed, "__func__", None) is Model.delete and stored:
            kwargs.pop("using", None)
            return _collect_and_delete(self, using, *args[1:], **kwargs)
        # Whatever a delete of the project's own does, a refusal in the middle of it undoes.
        with whole(using), context.judging(judge_delete(self, using)):
            return proceed(*args, **kwargs)

    return delete


def _collect_and_delete(
    instance: Model, using: str, keep_parents: bool = False
) -> tuple[int, dict[str, int]]:
    """Delete ``instance`` as ``Model.delete`` does, but judge all that it cascades to at once."""
    with transaction_for(using):
        collector = GuardedCollector(using=using, origin=instance)
        collector.collect([instance], keep_parents=keep_parents)
        return collector.delete()


def judge_delete(instance: Model, using: str) -> frozenset[Any]:
    """Ask the guard about the rows of ``instance``; return what it has judged."""
    found: list[Subject] = []
    for family in families_of(type(instance)):
        key = subjects.written_key(instance, family.root)
        if key is None:
            continue
        target = subjects.stored_target(family.root, key, using)
        if family.policies:
            adding = instance._state.adding
            found.append(subjects.own_subject(family, type(instance), target, may_be_new=adding))
        if family.ties:
            rows = subjects.rows_with(family.root, [target.pk], using)
            found += subjects.of_rows(rows, using, own=False).subjects
    return guard.judge(found).judged
