"""The verbs for the locks of many objects at once: hold, reserve, renew, remove.

Rows are locked in one order, that of the targets, so that two who want the same ones wait for
each other instead of deadlocking. All targets of a call are in one database, and every call is
made in a transaction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.db import connections

from lock_tokens import locking, signals
from lock_tokens.locking import Lock, NewLock
from lock_tokens.statements import batch_statements_for
from lock_tokens.targets import Target

# How many rows are inserted by one statement; SQLite takes no more than 32,766 parameters.
RESERVED_AT_ONCE = 4000


def in_order(targets: Iterable[Target]) -> list[Target]:
    """Return ``targets`` once each, in the order in which their locks are taken."""
    return sorted(set(targets), key=lambda target: target.order)


def hold(targets: Iterable[Target]) -> dict[Target, Lock]:
    """Return the locks of ``targets``, with their rows locked until the transaction ends.

    Targets without a lock are left out. Statements: 1.
    """
    wanted = list(targets)
    if len(wanted) == 1:
        lock = locking.hold(wanted[0])
        return {wanted[0]: lock} if lock else {}
    wanted = in_order(wanted)
    if not wanted:
        return {}
    using = wanted[0].using
    return _by_target(wanted, _fetch(using, *_statements(using).hold(_keys(wanted))))


def remove(targets: Iterable[Target]) -> None:
    """Delete the locks of ``targets``, whoever holds them. Statements: 1, or none."""
    if wanted := in_order(targets):
        using = wanted[0].using
        _execute(using, *_statements(using).remove(_keys(wanted)))


def _keys(targets: Iterable[Target]) -> dict[int, list[str]]:
    keys: dict[int, list[str]] = defaultdict(list)
    for target in targets:
        keys[target.content_type_id].append(target.key)
    return keys


def reserve(targets: Iterable[Target]) -> tuple[dict[Target, Lock], list[int]]:
    """Keep everybody else from the locks of ``targets`` until the transaction ends.

    Returns the locks that were there, with their rows locked, and the ids of the rows that were
    put where there was none. These are to be deleted again by ``discard``: who inserts the same
    key has to wait for the transaction that did so all the same. Statements: 1.
    """
    found, placed = place(targets, seconds=1)
    return found, [lock.id for lock in placed.values()]


def place(
    targets: Iterable[Target], *, seconds: int
) -> tuple[dict[Target, Lock], dict[Target, Lock]]:
    """Put a lock of ``seconds`` on those of ``targets`` that have none, as ``reserve``.

    Returns the locks that were there and those that were placed. Statements: 1.
    """
    found: dict[Target, Lock] = {}
    placed: dict[Target, Lock] = {}
    wanted = in_order(targets)
    for start in range(0, len(wanted), RESERVED_AT_ONCE):
        some = wanted[start : start + RESERVED_AT_ONCE]
        tokens = {target: locking.new_token() for target in some}
        for target, lock in _place(tokens, seconds).items():
            (placed if lock.token == tokens[target] else found)[target] = lock
    return found, placed


def _place(tokens: dict[Target, str], seconds: int) -> dict[Target, Lock]:
    """Insert a row for each target that has none; return the rows of all of them, locked."""
    using = next(iter(tokens)).using
    moment = locking.now()
    rows = [
        locking.insert_params(connections[using], target, NewLock(token, moment, seconds))
        for target, token in tokens.items()
    ]
    return _by_target(tokens, _fetch(using, *_statements(using).reserve(rows)))


def renew(locks: dict[Target, Lock]) -> None:
    """Start the leases of ``locks``, whose rows this transaction holds, anew. Statements: 1."""
    if not locks:
        return
    using = next(iter(locks)).using
    locked_at = locking.now()
    moment = connections[using].ops.adapt_datetimefield_value(locked_at)
    _execute(using, *_statements(using).renew([lock.id for lock in locks.values()], moment))
    for target, lock in locks.items():
        locking.announce(signals.lock_renewed, target, locking.Lease(locked_at, lock.timeout))


def discard(using: str, ids: Sequence[int]) -> None:
    """Delete the rows ``ids``, which this transaction holds. Statements: 1, or none."""
    if ids:
        _execute(using, *_statements(using).delete(ids))


def _statements(using: str) -> Any:
    return batch_statements_for(connections[using].vendor)


def _execute(using: str, sql: str, params: Sequence[Any]) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(sql, params)


def _fetch(using: str, sql: str, params: Sequence[Any]) -> Iterator[tuple[Lock, int, str]]:
    connection = connections[using]
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        rows = cursor.fetchall()
    for *row, content_type_id, key in rows:
        yield locking.row_lock(connection, row), content_type_id, key


def _by_target(
    targets: Iterable[Target], rows: Iterable[tuple[Lock, int, str]]
) -> dict[Target, Lock]:
    known = {(target.content_type_id, target.key): target for target in targets}
    return {known[content_type_id, key]: lock for lock, content_type_id, key in rows}
