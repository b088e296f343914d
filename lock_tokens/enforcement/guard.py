"""May this write happen? One decision, used by every road to a row.

Whoever asks must be in the transaction of the write: the decision holds as long as the lock's
row stays locked, and that is until the transaction ends.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, Model, QuerySet
from django.db.models.expressions import DatabaseDefault

from lock_tokens import locking, settings, signals, verdicts
from lock_tokens.enforcement import context
from lock_tokens.enforcement.policy import Family, Policy, strictest
from lock_tokens.exceptions import AlreadyLockedError, LockRequired, WriteRefused
from lock_tokens.targets import Target, target_for

logger = logging.getLogger("lock_tokens")


@dataclass(frozen=True)
class Subject:
    """An object that a write would change, in one of the families it belongs to."""

    target: Target
    family: Family
    above: tuple[Policy, ...]
    beside: tuple[Policy, ...]
    # The write may turn out to be the first of its row, and then needs no token.
    may_be_new: bool

    @property
    def policy(self) -> Policy:
        return strictest((*self.above, *self.beside))

    def is_enforced(self) -> bool:
        """Ask the database whether one of the enforced models has a row of this object."""
        return any(
            QuerySet(policy.model, using=self.target.using).filter(pk=self.target.pk).exists()
            for policy in (*self.above, *self.beside)
        )


def subject_of(instance: Model, family: Family, using: str, *, may_be_new: bool) -> Subject | None:
    """Return what a write of ``instance`` changes in ``family``; ``None`` for a row without key."""
    pk = written_key(instance, family.root)
    if pk is None:
        return None
    target = _stored_target(target_for(family.root, pk, using))
    above, beside = family.above(type(instance)), family.beside(type(instance))
    return Subject(target, family, above, beside, may_be_new=may_be_new or not above)


def written_key(instance: Model, root: type[Model]) -> Any:
    """Return the key of the ``root`` row that a save of ``instance`` writes, ``None`` if unset.

    That is the root's own key attribute, or failing that the first link that leads to it, as
    ``Model._save_parents`` decides.
    """
    meta = root._meta
    if len(meta.pk_fields) > 1:
        values = tuple(getattr(instance, field.attname) for field in meta.pk_fields)
        return None if None in values else values
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


def _stored_target(target: Target) -> Target:
    """Return ``target`` under the key as the database spells it.

    A collation may find the row "key" for "KEY" too, and it is that row which a write changes,
    so it is that row's lock which counts. Statements: 1 where keys may be spelt differently.
    """
    if not _has_loose_key(target.model, connections[target.using]):
        return target
    rows: QuerySet[Any] = QuerySet(target.model, using=target.using).filter(pk=target.pk)
    stored: Any = rows.values_list("pk", flat=True).first()
    return target if stored is None else target_for(target.model, stored, target.using)


def _has_loose_key(model: type[Model], connection: BaseDatabaseWrapper) -> bool:
    """Tell whether different texts may be the same key: on MariaDB, and under a collation."""
    for field in model._meta.pk_fields:
        while field.remote_field is not None:
            field = field.target_field  # type: ignore[attr-defined]
        collation = field.db_parameters(connection).get("collation")
        if field.empty_strings_allowed and (connection.vendor == "mysql" or collation):
            return True
    return False


def judge(subject: Subject) -> bool:
    """Let the write of ``subject`` pass or raise ``WriteRefused``; ``True`` if its row is new.

    Statements, beside that of ``_stored_target``: 1; 1 more to renew a lock of which less than
    half is left; 1 more to find that the row is new; 1 to 3 more for a refusal or under the policy
    "respect".
    """
    state = context.current()
    target, policy = subject.target, subject.policy
    if state.suspends(target.model) or target in state.judged:
        return False
    outside = settings.current.OUTSIDE_REQUEST if state.request is None else "refuse"
    if outside == "allow":
        return False
    require_transaction(subject)
    lock = locking.hold(target)
    tokens = state.presented_for(target)
    if verdicts.allows(target, lock, tokens):
        return False
    if subject.may_be_new and not subject.is_enforced():
        return True
    known = state.request is not None and state.request.authenticated
    try:
        if policy.respect or outside == "respect":
            _shut_out(target, lock, authenticated=known)
        else:
            raise verdicts.refusal(target, lock, tokens, authenticated=known)
    except WriteRefused as error:
        refuse(error, policy, target)
    return False


def require_transaction(subject: Subject) -> None:
    """Refuse a write that would land outside the transaction in which it is judged."""
    connection = transaction.get_connection(subject.target.using)
    if not connection.in_atomic_block and connection.get_autocommit():
        raise LockRequired(
            f"{subject.target.label} {subject.target.pk} was not written: it is saved by a road "
            "that opens no transaction; wrap it in transaction.atomic().",
            model_label=subject.target.label,
            pk=subject.target.pk,
        )


def _shut_out(target: Target, lock: locking.Lock | None, *, authenticated: bool) -> None:
    """Keep everybody else out for the rest of the transaction, or refuse a locked object."""
    if lock is None or lock.has_expired():
        try:
            locking.shut_out(target)
        except AlreadyLockedError:
            lock = locking.read(target)
        else:
            return
    raise verdicts.object_locked(target, lock, authenticated=authenticated)


def refuse(error: WriteRefused, policy: Policy, target: Target) -> None:
    """Log and announce a refusal, and raise it unless the policy is to report only."""
    state = context.current()
    logger.warning(
        "%s: %s %s%s",
        type(error).__name__,
        target.label,
        target.pk,
        " (report only)" if policy.report_only else "",
    )
    signals.write_refused.send_robust(
        target.model,
        pk=target.pk,
        using=target.using,
        lock=error.lock,
        error=error,
        request=state.request.request if state.request else None,
    )
    if not policy.report_only:
        raise error
