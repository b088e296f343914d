"""The verbs of a lock: acquire, renew, release, read, hold, remove.

Nothing here writes on the strength of what it read before: a row is inserted only where the
object has none, replaced only if it still is the very row that was found expired, renewed and
released only with its own token. Each verb is one statement, and the database decides it.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any, NamedTuple, cast
from uuid import uuid4

from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.db import OperationalError, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.dispatch import Signal
from django.utils import timezone
from django.utils.translation import gettext as _

from lock_tokens import settings, signals
from lock_tokens.exceptions import AlreadyLockedError, InvalidToken, LockFacts
from lock_tokens.statements import SHORTEN, Taking, read_with_holder, statements_for
from lock_tokens.targets import Target

logger = logging.getLogger("lock_tokens")

# How often a lock may slip away between two statements of one acquire before it counts as taken.
ATTEMPTS = 5
# The code of MariaDB's "Deadlock found when trying to get lock".
DEADLOCK = 1213
# Those of PostgreSQL and MariaDB for having waited longer than allowed for another transaction.
TIMED_OUT = ("55P03", 1205)
SQLITE_BUSY = "database is locked"
# The modes of transactions on SQLite that begin with the write lock.
IMMEDIATE = ("IMMEDIATE", "EXCLUSIVE")
BUSY_ADVICE = (
    "The database is locked: another connection kept it from being written for longer than the "
    "timeout in its OPTIONS, or this transaction had read what the other one then changed. Keep "
    "transactions short, raise the timeout, and set transaction_mode to IMMEDIATE there."
)


def now() -> datetime:
    """Return the package's notion of now; every decision about time asks here."""
    return timezone.now()


def new_token() -> str:
    """Return 128 random bits as 32 hexadecimal characters."""
    return uuid4().hex


def same_token(expected: str, given: object) -> bool:
    """Compare in constant time; anything but a string is no token."""
    return is_token(given) and secrets.compare_digest(expected, cast(str, given))


def is_among(given: Iterable[object], expected: str) -> bool:
    """Tell whether one of ``given`` is the token ``expected``; in constant time."""
    # A list, not a generator: as many comparisons as tokens, whichever of them matches.
    matching = [same_token(expected, token) for token in given]
    return any(matching)


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
    # When it was taken; renewing moves ``locked_at`` only.
    created: datetime | None = None
    holder: str | None = None

    def matches(self, tokens: Iterable[object]) -> bool:
        """Tell whether one of ``tokens`` is the valid one."""
        return is_among(tokens, self.token)

    def facts(self, *, authenticated: bool = False, holder: str | None = None) -> LockFacts:
        since = self.created or self.locked_at
        facts = LockFacts(since, self.expires_at, _holder=holder or self.holder)
        return facts.told_to(authenticated=authenticated)


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
    id_, token, locked_at, timeout, locked_by_id, created, *holder = row
    if locked_by_id is not None:
        locked_by_id = _user_field().to_python(locked_by_id)
    moments = _moment(connection, locked_at), _moment(connection, created)
    return Lock(moments[0], timeout, id_, token, locked_by_id, moments[1], *holder)


def _moment(connection: BaseDatabaseWrapper, value: Any) -> datetime:
    moment: datetime = datetime.fromisoformat(value) if isinstance(value, str) else value
    if moment.tzinfo is None and django_settings.USE_TZ:
        return moment.replace(tzinfo=connection.timezone)
    return moment


def insert_params(connection: BaseDatabaseWrapper, target: Target, new: NewLock) -> list[Any]:
    locked_at = created = connection.ops.adapt_datetimefield_value(new.locked_at)
    if new.created is not None:
        created = connection.ops.adapt_datetimefield_value(new.created)
    by = new.locked_by_id
    if by is not None:
        by = _user_field().get_db_prep_value(by, connection)
    return [
        new.token,
        target.content_type_id,
        target.key,
        locked_at,
        new.timeout,
        by,
        created,
    ]


def _run(
    connection: BaseDatabaseWrapper, sql: str, params: Sequence[Any], attempts: int = ATTEMPTS
) -> list[Any]:
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql, params)
            return list(cursor.fetchall())
    except OperationalError as error:
        if connection.vendor == "sqlite" and error.args == (SQLITE_BUSY,):
            raise OperationalError(BUSY_ADVICE) from error
        # MariaDB locks the gap beside a key too, so those who take the locks of neighbouring
        # objects can deadlock. Outside a transaction this statement is all that is undone then.
        if _code_of(error) != DEADLOCK or _is_in_transaction(connection) or attempts == 1:
            raise
    return _run(connection, sql, params, attempts - 1)


def _code_of(error: OperationalError) -> Any:
    """Return the code of the database for ``error``."""
    cause = error.__cause__
    # As psycopg 3 and 2 name it; mysqlclient gives it as the first argument.
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or error.args[0]


def _is_in_transaction(connection: BaseDatabaseWrapper) -> bool:
    return connection.in_atomic_block or not connection.get_autocommit()


def _contend(
    connection: BaseDatabaseWrapper, target: Target, taking: Taking, params: Sequence[Any]
) -> list[Any]:
    """Run the statement that takes a lock; who waits too long for another transaction is refused.

    That transaction may have taken the lock, or removed it, without having ended yet.
    """
    within = _is_in_transaction(connection)
    # PostgreSQL lets nothing more be done in a transaction after an error.
    keeping = within and connection.vendor == "postgresql"
    try:
        with transaction.atomic(using=target.using) if keeping else nullcontext():
            rows = _run(connection, taking.within if within else taking.alone, params)
            return [row for row in rows if row[0] is not None]
    except OperationalError as error:
        code = _code_of(error)
        if code in TIMED_OUT:
            message = _("%(object)s is being locked or unlocked by a transaction that goes on.")
        elif code == DEADLOCK:
            if connection.in_atomic_block:
                # The database has undone it, so nothing more may be done in it.
                transaction.set_rollback(True, using=target.using)
            message = _("%(object)s was not locked: a deadlock ended the transaction; begin anew.")
        else:
            raise
        message %= {"object": f"{target.label} {target.pk}"}
        raise AlreadyLockedError(message, model_label=target.label, pk=target.pk) from error


def _written(rows: list[Any], new: NewLock) -> Lock | None:
    # MariaDB returns the row that is in the way; only one with our token is ours.
    if rows and rows[0][1] == new.token:
        created = new.created or new.locked_at
        return Lock(new.locked_at, new.timeout, rows[0][0], new.token, new.locked_by_id, created)
    return None


def announce(
    signal: Signal, target: Target, lock: Lease, *, previous: Lease | None = None, **extra: Any
) -> None:
    if signal.has_listeners(target.model):
        if previous:
            extra["previous"] = previous.facts()
        # Robust: the lock is committed by then, its taker must not lose the token to a listener.
        # The signal itself, as on_commit(robust=True) of Django 5.2 fails to log a partial.
        send = partial(
            signal.send_robust,
            target.model,
            pk=target.pk,
            using=target.using,
            lock=lock.facts(),
            **extra,
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
        rows = _contend(connection, target, sql.insert, params)
        if lock := _written(rows, new):
            announce(signals.object_locked, target, lock)
            return lock
        held = _named(row_lock(connection, rows[0])) if rows else read(target, with_holder=True)
        if held is None:
            continue
        if not held.has_expired():
            break
        condition = _replace_condition(connection, target, held)
        rows = _contend(connection, target, sql.replace, [*params, *condition])
        if lock := _written(rows, new):
            announce(signals.lock_taken_over, target, lock, previous=held)
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
    announce(signals.lock_renewed, target, lease)
    return lease


def shorten(target: Target, lock: Lock, seconds: int) -> None:
    """Let the lease of ``lock`` end within ``seconds``, unless it was renewed since it was read.

    The token stays valid until somebody takes the lock. Statements: 1, or none.
    """
    ending = now() + timedelta(seconds=seconds - lock.timeout)
    if ending < lock.locked_at:
        connection = connections[target.using]
        adapt = connection.ops.adapt_datetimefield_value
        with connection.cursor() as cursor:
            cursor.execute(SHORTEN, [adapt(ending), lock.id, adapt(lock.locked_at)])


def release(target: Target, token: str) -> bool:
    """Remove the lock held with ``token``; tell whether there was one. Statements: 1."""
    if not is_token(token):
        return False
    connection = connections[target.using]
    sql = statements_for(connection.vendor).release
    rows = _run(connection, sql, [target.content_type_id, target.key, token])
    if rows:
        announce(signals.object_unlocked, target, row_lock(connection, rows[0]))
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
        announce(signals.lock_broken, target, lock, by=by, reason=reason)
    return lock


def read(target: Target, *, with_holder: bool = False) -> Lock | None:
    """Return the object's lock, live or expired, or ``None``.

    Statements: 1; with the holder, 2 where users are in another database.
    """
    connection = connections[target.using]
    users = get_user_model() if with_holder else None
    joined = users is not None and router.db_for_write(users) == target.using
    plain = statements_for(connection.vendor).read
    sql = _read_with_holder(target.using, users) if joined else plain
    rows = _run(connection, sql, [target.content_type_id, target.key])
    lock = row_lock(connection, rows[0]) if rows else None
    # Users in another database are not those of the same keys here.
    return _named(lock) if lock and users and not joined else lock


def _named(lock: Lock) -> Lock:
    """Return ``lock`` with the name of its holder. Statements: 1 if it has one."""
    if lock.locked_by_id is None:
        return lock
    return replace(lock, holder=user_names([lock.locked_by_id]).get(lock.locked_by_id))


@cache
def _read_with_holder(using: str, users: Any) -> str:
    return read_with_holder(connections[using].ops.quote_name, users)


def user_names(keys: Iterable[Any]) -> dict[Any, str]:
    """Return the names of the users with these keys, by key. Statements: 1."""
    users = get_user_model()
    found = users._base_manager.using(router.db_for_write(users)).filter(pk__in=keys)
    return dict(found.values_list("pk", users.USERNAME_FIELD))


def hold(target: Target) -> Lock | None:
    """Return the object's lock with its row locked until the transaction ends. Statements: 1.

    Until then nobody can take it over, renew, release or break it; call it in a transaction.
    """
    connection = connections[target.using]
    sql = statements_for(connection.vendor)
    statement = sql.read if _has_write_lock(connection) else sql.hold
    rows = _run(connection, statement, [target.content_type_id, target.key])
    return row_lock(connection, rows[0]) if rows else None


def _has_write_lock(connection: Any) -> bool:
    """Tell whether this is SQLite and its one write lock was taken when the transaction began."""
    return (
        connection.vendor == "sqlite"
        and connection.in_atomic_block
        and connection.commit_on_exit
        and connection.transaction_mode in IMMEDIATE
    )


def is_locked(target: Target) -> bool:
    """Tell whether the object has a live lock. Statements: 1."""
    connection = connections[target.using]
    moment = connection.ops.adapt_datetimefield_value(now())
    sql = statements_for(connection.vendor).is_live
    return bool(_run(connection, sql, [target.content_type_id, target.key, moment]))
