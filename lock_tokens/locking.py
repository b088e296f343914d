"""The verbs of a lock: acquire, renew, release, read, hold, remove.

Nothing here writes on the strength of what it read before: a row is inserted only where the
object has none, replaced only if it still is the very row that was found expired, renewed and
released only with its own token. Each verb is one statement, and the database decides it.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple, cast
from uuid import uuid4

from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.db import OperationalError, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.dispatch import Signal
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from lock_tokens import settings, signals
from lock_tokens.exceptions import AlreadyLockedError, InvalidToken, LockFacts
from lock_tokens.statements import read_with_holder, statements_for
from lock_tokens.targets import Target

logger = logging.getLogger("lock_tokens")

# How often a lock may slip away between two statements of one acquire before it counts as taken.
ATTEMPTS = 5
# The code of MariaDB's "Deadlock found when trying to get lock".
DEADLOCK = 1213


def now() -> datetime:
    """Return the package's notion of now; every decision about time asks here."""
    return timezone.now()


def new_token() -> str:
    """Return 128 random bits as 32 hexadecimal characters."""
    return uuid4().hex


def same_token(expected: str, given: object) -> bool:
    """Compare in constant time; anything but a string is no token."""
    return is_token(given) and secrets.compare_digest(expected, cast(str, given))


def is_token(value: object) -> bool:
    """Tell whether ``value`` could be a token; the databases cannot even look up some strings."""
    return isinstance(value, str) and value.isascii() and value.isprintable()


@dataclass(frozen=True)
class Lease:
    """A span in which nobody else may take the lock; ``timeout`` is in seconds."""

    locked_at: datetime
    timeout: int

    @property
    def expires_at(self) -> datetime:
        return self.locked_at + timedelta(seconds=self.timeout)

    def has_expired(self) -> bool:
        return self.expires_at <= now()

    def remaining(self) -> timedelta:
        return self.expires_at - now()

    def serialize(self, token: str) -> dict[str, str]:
        """Return the public form of a lock held with ``token``."""
        return {
            "token": token,
            "expires": self.expires_at.strftime(settings.current.DATEFORMAT),
        }

    def facts(self, *, authenticated: bool = False, holder: str | None = None) -> LockFacts:
        """Return what a reader, who is ``authenticated`` or not, may know of this lock."""
        facts = LockFacts(self.locked_at, self.expires_at, _holder=holder)
        return facts.told_to(authenticated=authenticated)


@dataclass(frozen=True)
class Lock(Lease):
    """One row of the lock table, as it was when it was read or written."""

    id: int
    token: str = field(repr=False)
    locked_by_id: Any = None
    holder: str | None = None

    def matches(self, tokens: Iterable[object]) -> bool:
        """Tell whether one of ``tokens`` is the valid one."""
        # A list, not a generator: as many comparisons as tokens, whichever of them matches.
        matching = [same_token(self.token, token) for token in tokens]
        return any(matching)

    def facts(self, *, authenticated: bool = False, holder: str | None = None) -> LockFacts:
        return super().facts(authenticated=authenticated, holder=holder or self.holder)


class NewLock(NamedTuple):
    """The values of a row that is about to be inserted."""

    token: str
    locked_at: datetime
    timeout: int
    locked_by_id: Any = None
    created: datetime | None = None


def _user_field() -> Any:
    return get_user_model()._meta.pk


def row_lock(connection: BaseDatabaseWrapper, row: Sequence[Any]) -> Lock:
    """Make a Lock of the columns ``statements.ROW``, and the holder's name if it was joined."""
    id_, token, locked_at, timeout, locked_by_id, *holder = row
    if isinstance(locked_at, str):
        locked_at = parse_datetime(locked_at)
    if django_settings.USE_TZ and timezone.is_naive(locked_at):
        locked_at = timezone.make_aware(locked_at, connection.timezone)
    user = _user_field().to_python(locked_by_id)
    return Lock(locked_at, timeout, id_, token, user, *holder)


def insert_params(connection: BaseDatabaseWrapper, target: Target, new: NewLock) -> list[Any]:
    moment = connection.ops.adapt_datetimefield_value
    return [
        new.token,
        target.content_type_id,
        target.key,
        moment(new.locked_at),
        new.timeout,
        _user_field().get_db_prep_value(new.locked_by_id, connection),
        moment(new.created or now()),
    ]


def _run(
    connection: BaseDatabaseWrapper, sql: str, params: Sequence[Any], attempts: int = ATTEMPTS
) -> list[Any]:
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql, params)
            return list(cursor.fetchall())
    except OperationalError as error:
        # MariaDB locks the gap beside a key too, so those who take the locks of neighbouring
        # objects can deadlock. Outside a transaction this statement is all that is undone then.
        alone = not connection.in_atomic_block and connection.get_autocommit()
        if error.args[:1] != (DEADLOCK,) or not alone or attempts == 1:
            raise
    return _run(connection, sql, params, attempts - 1)


def _written(rows: list[Any], new: NewLock, *extra: Any) -> Lock | None:
    # MariaDB returns the row that was in the way; only one with our token is ours.
    if rows and rows[0][1] == new.token:
        return Lock(new.locked_at, new.timeout, rows[0][0], new.token, new.locked_by_id)
    return None


def announce(signal: Signal, target: Target, facts: LockFacts | None, **extra: Any) -> None:
    if signal.has_listeners(target.model):
        # Robust: the lock is committed by then, its taker must not lose the token to a listener.
        # The signal itself, as on_commit(robust=True) of Django 5.2 fails to log a partial.
        send = partial(
            signal.send_robust, target.model, pk=target.pk, using=target.using, lock=facts, **extra
        )
        transaction.on_commit(send, using=target.using)


def lease_seconds(target: Target, timeout: int | None) -> int:
    """Return ``timeout``, or the one in force for the model; ``ValueError`` if it is no timeout."""
    if timeout is None:
        return settings.current.timeout_for(target.named)
    if problem := settings.SPECS["TIMEOUT"].problem(timeout):
        raise ValueError(f"A lock's timeout {problem}, not {timeout!r}.")
    return timeout


def acquire(target: Target, *, timeout: int | None = None, by: Any = None) -> Lock:
    """Take the lock, or take over an expired one, for ``timeout`` seconds.

    ``by`` is the key of the user who takes it. Raises ``AlreadyLockedError`` when it is live.
    Statements: 1; 2 when it is refused; 3 for a take-over.
    """
    new = NewLock(new_token(), now(), lease_seconds(target, timeout), by)
    return insert(target, new)


def insert(target: Target, new: NewLock) -> Lock:
    """Write ``new`` as the object's lock unless another is live; as ``acquire``."""
    connection = connections[target.using]
    sql = statements_for(connection.vendor)
    params = insert_params(connection, target, new)
    held = None
    for _attempt in range(ATTEMPTS):
        if lock := _written(_run(connection, sql.insert, params), new):
            announce(signals.object_locked, target, lock.facts())
            return lock
        held = read(target, with_holder=True)
        if held is None:
            continue
        if not held.has_expired():
            break
        condition = _replace_condition(connection, target, held)
        if lock := _written(_run(connection, sql.replace, [*params, *condition]), new):
            previous = held.facts()
            announce(signals.lock_taken_over, target, lock.facts(), previous=previous)
            return lock
    raise AlreadyLockedError(
        model_label=target.label,
        pk=target.pk,
        lock=held.facts(authenticated=new.locked_by_id is not None) if held else None,
    )


def _replace_condition(connection: BaseDatabaseWrapper, target: Target, expired: Lock) -> list[Any]:
    moment = connection.ops.adapt_datetimefield_value(now())
    if connection.vendor == "sqlite":
        return [target.content_type_id, target.key, expired.id, moment]
    return [expired.id, moment]


def renew(target: Target, token: str, *, timeout: int | None = None) -> Lease:
    """Start the lease of the lock held with ``token`` anew, for ``timeout`` seconds or as before.

    Raises ``InvalidToken`` when the lock was replaced or removed. Statements: 1.
    """
    if timeout is not None:
        lease_seconds(target, timeout)
    if not is_token(token):
        raise InvalidToken(model_label=target.label, pk=target.pk)
    connection = connections[target.using]
    locked_at = now()
    moment = connection.ops.adapt_datetimefield_value(locked_at)
    with connection.cursor() as cursor:
        cursor.execute(
            statements_for(connection.vendor).renew,
            [moment, timeout, target.content_type_id, target.key, token],
        )
        if connection.vendor == "mysql":
            seconds = cursor.lastrowid if cursor.rowcount else None
        else:
            rows = cursor.fetchall()
            seconds = rows[0][0] if rows else None
    if not seconds:
        raise InvalidToken(model_label=target.label, pk=target.pk)
    lease = Lease(locked_at, seconds)
    announce(signals.lock_renewed, target, lease.facts())
    return lease


def release(target: Target, token: str) -> bool:
    """Remove the lock held with ``token``; tell whether there was one. Statements: 1."""
    if not is_token(token):
        return False
    connection = connections[target.using]
    sql = statements_for(connection.vendor).release
    rows = _run(connection, sql, [target.content_type_id, target.key, token])
    if rows:
        facts = row_lock(connection, rows[0]).facts()
        announce(signals.object_unlocked, target, facts)
    return bool(rows)


def remove(target: Target) -> Lock | None:
    """Remove the object's lock whoever holds it, and return it. Statements: 1."""
    connection = connections[target.using]
    sql = statements_for(connection.vendor).remove
    rows = _run(connection, sql, [target.content_type_id, target.key])
    return row_lock(connection, rows[0]) if rows else None


def break_lock(target: Target, *, by: Any = None, reason: str = "") -> Lock | None:
    """Remove the object's lock on behalf of the user ``by``, and announce why. Statements: 1."""
    lock = remove(target)
    if lock:
        logger.info("The lock of %s %s was broken by %s: %s", target.label, target.pk, by, reason)
        announce(signals.lock_broken, target, lock.facts(), by=by, reason=reason)
    return lock


def read(target: Target, *, with_holder: bool = False) -> Lock | None:
    """Return the object's lock, live or expired, or ``None``. Statements: 1."""
    connection = connections[target.using]
    sql = statements_for(connection.vendor).read
    if with_holder and router.allow_migrate_model(target.using, get_user_model()):
        sql = read_with_holder(connection.ops.quote_name, get_user_model())
    rows = _run(connection, sql, [target.content_type_id, target.key])
    return row_lock(connection, rows[0]) if rows else None


def hold(target: Target) -> Lock | None:
    """Return the object's lock with its row locked until the transaction ends. Statements: 1.

    Until then nobody can take it over, renew, release or break it; call it in a transaction.
    """
    connection = connections[target.using]
    sql = statements_for(connection.vendor).hold
    rows = _run(connection, sql, [target.content_type_id, target.key])
    return row_lock(connection, rows[0]) if rows else None


def is_locked(target: Target) -> bool:
    """Tell whether the object has a live lock. Statements: 1."""
    connection = connections[target.using]
    moment = connection.ops.adapt_datetimefield_value(now())
    sql = statements_for(connection.vendor).is_live
    return bool(_run(connection, sql, [target.content_type_id, target.key, moment]))
