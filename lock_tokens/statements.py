"""The SQL of the verbs, in the dialect of each database.

Written by hand, because the ORM would spend longer on building these statements than the
database on running them, and because each has to decide and to write at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

from django.db.models import Model

TABLE = "lock_tokens_locktoken"
# The index of one lock an object, on MariaDB.
ONE_PER_OBJECT = "lock_tokens_one_per_object"
COLUMNS = (
    "token_str, locked_object_content_type_id, locked_object_id, "
    "locked_at, timeout, locked_by_id, created"
)
ROW = "id, token_str, locked_at, timeout, locked_by_id, created"
BATCH_ROW = f"{ROW}, locked_object_content_type_id, locked_object_id"
OBJECT = "locked_object_content_type_id = %s AND locked_object_id = %s"
HELD = f"{OBJECT} AND token_str = %s"
CONFLICT = "ON CONFLICT (locked_object_content_type_id, locked_object_id) DO"
# Seconds that who wants a lock waits for a transaction that is taking or removing it.
BOUND = 5
INSERT = f"INSERT INTO {TABLE} ({COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s)"
# A row that was replaced has another id, one that was renewed another time.
SHORTEN = f"UPDATE {TABLE} SET locked_at = %s WHERE id = %s AND locked_at = %s"
# What a replaced row takes over from the new one. The id is last: MariaDB assigns left to right.
REPLACED = ("locked_at", "timeout", "locked_by_id", "created", "id")


class Taking(NamedTuple):
    """A statement that takes a lock, for use alone and within a transaction.

    It waits no longer than ``BOUND`` for a transaction that has written the same lock, or than
    the connection allows if that is less.
    """

    alone: str
    within: str


class Statements(NamedTuple):
    """One statement a verb; what each returns is what the verb reads from it."""

    insert: Taking
    replace: Taking
    renew: str
    release: str
    remove: str
    read: str
    hold: str
    is_live: str


def _postgresql() -> Statements:
    assignments = ", ".join(f"{column} = EXCLUDED.{column}" for column in REPLACED)
    return Statements(
        insert=_bounded(f"{CONFLICT} NOTHING"),
        # EXCLUDED.id is the sequence's next value: a lock taken over is a new, higher row.
        replace=_bounded(
            f"{CONFLICT} UPDATE SET token_str = EXCLUDED.token_str, {assignments} "
            f"WHERE {TABLE}.id = %s AND {TABLE}.expires_at <= %s"
        ),
        renew=f"UPDATE {TABLE} SET locked_at = %s, timeout = COALESCE(%s, timeout) "
        f"WHERE {HELD} RETURNING timeout",
        release=f"DELETE FROM {TABLE} WHERE {HELD} RETURNING {ROW}",
        remove=f"DELETE FROM {TABLE} WHERE {OBJECT} RETURNING {ROW}",
        read=f"SELECT {ROW} FROM {TABLE} WHERE {OBJECT}",
        hold=f"SELECT {ROW} FROM {TABLE} WHERE {OBJECT} FOR UPDATE",
        is_live=f"SELECT 1 FROM {TABLE} WHERE {OBJECT} AND expires_at > %s",
    )


def _bounded(conflict: str) -> Taking:
    """Return the insertion whose wait ends: PostgreSQL by itself waits for ever."""
    setting = "current_setting('lock_timeout')"
    bound = (
        f"set_config('lock_timeout', CASE {setting} WHEN '0' THEN '{BOUND}s' ELSE {setting} END, "
        "true)"
    )
    source = f"INSERT INTO {TABLE} ({COLUMNS}) SELECT %s, %s, %s, %s, %s, %s, %s"
    return Taking(
        # The setting ends with the transaction, which is this statement.
        alone=f"{source} WHERE {bound} IS NOT NULL {conflict} RETURNING id, token_str",
        # The transaction goes on with the setting that it had.
        within=f"WITH was AS MATERIALIZED (SELECT {setting} AS bound, {bound}), "
        f"new AS ({source} FROM was {conflict} RETURNING id, token_str) "
        "SELECT new.id, new.token_str, set_config('lock_timeout', was.bound, true) "
        "FROM was LEFT JOIN new ON true",
    )


def _sqlite() -> Statements:
    # Who waits here waits for the whole database, as long as the connection's timeout says.
    insert = f"{INSERT} {CONFLICT} NOTHING RETURNING id, token_str"
    # DO UPDATE could not draw a new AUTOINCREMENT id, REPLACE does. NOT EXISTS leaves it nothing
    # to do when the object has any row but the one that was found expired.
    replace = (
        f"INSERT OR REPLACE INTO {TABLE} ({COLUMNS}) SELECT %s, %s, %s, %s, %s, %s, %s "
        f"WHERE NOT EXISTS (SELECT 1 FROM {TABLE} WHERE {OBJECT} "
        "AND NOT (id = %s AND expires_at <= %s)) RETURNING id, token_str"
    )
    return _postgresql()._replace(
        insert=Taking(insert, insert),
        replace=Taking(replace, replace),
        # There is one write lock and no FOR UPDATE. An update that changes nothing takes the
        # write lock, and waits for it, which a read that turns into a write later would not.
        hold=f"UPDATE {TABLE} SET token_str = token_str WHERE {OBJECT} RETURNING {ROW}",
    )


def _mariadb() -> Statements:
    # Once the row has the new token it is ours, and its other columns follow. VALUES(id) is the
    # AUTO_INCREMENT value that the insert had drawn before it met the duplicate.
    follow = ", ".join(
        f"{column} = IF(token_str = VALUES(token_str), VALUES({column}), {column})"
        for column in REPLACED
    )
    # Hides the token's own index from the optimizer: every statement has to lock the object's
    # index entry first and the row second, as an insert does. The other way round they deadlock.
    held = f"{OBJECT} AND CONCAT(token_str) = %s"
    # Ends with the statement.
    wait = f"LEAST({BOUND}, @@innodb_lock_wait_timeout)"
    bounded = f"SET STATEMENT innodb_lock_wait_timeout = {wait} FOR {INSERT}"
    # Not INSERT IGNORE, whose shared lock on the duplicate deadlocks when two go on from it.
    insert = f"{bounded} ON DUPLICATE KEY UPDATE id = id RETURNING {ROW}"
    replace = (
        f"{bounded} ON DUPLICATE KEY UPDATE token_str = IF(id = %s AND expires_at <= %s, "
        f"VALUES(token_str), token_str), {follow} RETURNING id, token_str"
    )
    return _postgresql()._replace(
        insert=Taking(insert, insert),
        replace=Taking(replace, replace),
        # An UPDATE has no RETURNING here; LAST_INSERT_ID carries the timeout out of it.
        renew=f"UPDATE {TABLE} SET locked_at = %s, "
        f"timeout = LAST_INSERT_ID(COALESCE(%s, timeout)) WHERE {held}",
        release=f"DELETE FROM {TABLE} WHERE {held} RETURNING {ROW}",
    )


class BatchStatements:
    """One statement for many rows, in the dialect of PostgreSQL.

    Each method returns the statement and its parameters. ``keys`` has the keys of the objects by
    the content type's id; what is returned of a row is ``ROW``, content type and key.
    """

    LIST = "= ANY(%s)"

    def hold(self, keys: dict[int, list[str]]) -> tuple[str, list[Any]]:
        # COLLATE "C" is the order of Python, in which the locks of others are inserted.
        sql = (
            f"SELECT {BATCH_ROW} FROM {TABLE} WHERE {self._objects(keys)} "
            'ORDER BY locked_object_content_type_id, locked_object_id COLLATE "C" FOR UPDATE'
        )
        return sql, self._object_params(keys)

    def remove(self, keys: dict[int, list[str]]) -> tuple[str, list[Any]]:
        return f"DELETE FROM {TABLE} WHERE {self._objects(keys)}", self._object_params(keys)

    def reserve(self, rows: Sequence[Sequence[Any]]) -> tuple[str, list[Any]]:
        sql = (
            f"INSERT INTO {TABLE} ({COLUMNS}) VALUES {_values(rows)} "
            "ON CONFLICT (locked_object_content_type_id, locked_object_id) "
            f"DO UPDATE SET timeout = {TABLE}.timeout RETURNING {BATCH_ROW}"
        )
        return sql, list(chain.from_iterable(rows))

    def renew(self, ids: Sequence[int], moment: Any) -> tuple[str, list[Any]]:
        sql = f"UPDATE {TABLE} SET locked_at = %s WHERE id {self.LIST}"
        return sql, [moment, self._array(ids)]

    def delete(self, ids: Sequence[int]) -> tuple[str, list[Any]]:
        return f"DELETE FROM {TABLE} WHERE id {self.LIST}", [self._array(ids)]

    def _objects(self, keys: dict[int, list[str]]) -> str:
        one = f"(locked_object_content_type_id = %s AND locked_object_id {self.LIST})"
        return " OR ".join([one] * len(keys))

    def _object_params(self, keys: dict[int, list[str]]) -> list[Any]:
        return list(chain.from_iterable((type_, self._array(some)) for type_, some in keys.items()))

    def _array(self, values: Sequence[Any]) -> Any:
        return list(values)


class _SQLiteBatches(BatchStatements):
    # One parameter however many values: SQLite counts them.
    LIST = "IN (SELECT value FROM json_each(%s))"

    def hold(self, keys: dict[int, list[str]]) -> tuple[str, list[Any]]:
        sql = (
            f"UPDATE {TABLE} SET token_str = token_str WHERE {self._objects(keys)} "
            f"RETURNING {BATCH_ROW}"
        )
        return sql, self._object_params(keys)

    def _array(self, values: Sequence[Any]) -> Any:
        return json.dumps(list(values))


class _MariaDBBatches(BatchStatements):
    """Finds rows by joining from a list of what is wanted.

    Where it is not told the index, the optimizer may read a small table whole, and then locks rows
    that nobody asked for in an order that nobody chose.
    """

    BY_ID = f"STRAIGHT_JOIN {TABLE} l FORCE INDEX (PRIMARY) ON l.id = wanted.id"

    def hold(self, keys: dict[int, list[str]]) -> tuple[str, list[Any]]:
        columns = ", ".join(f"l.{column}" for column in BATCH_ROW.split(", "))
        source, params = self._locks_of(keys)
        return f"SELECT {columns} FROM {source} FOR UPDATE", params

    def remove(self, keys: dict[int, list[str]]) -> tuple[str, list[Any]]:
        source, params = self._locks_of(keys)
        return f"DELETE l FROM {source}", params

    def _locks_of(self, keys: dict[int, list[str]]) -> tuple[str, list[Any]]:
        pairs = [(type_, key) for type_, some in keys.items() for key in some]
        source = (
            f"{_wanted(pairs, 'type', 'object')} "
            f"STRAIGHT_JOIN {TABLE} l FORCE INDEX ({ONE_PER_OBJECT}) "
            "ON l.locked_object_content_type_id = wanted.type "
            "AND l.locked_object_id = wanted.object COLLATE utf8mb4_nopad_bin"
        )
        return source, list(chain.from_iterable(pairs))

    def reserve(self, rows: Sequence[Sequence[Any]]) -> tuple[str, list[Any]]:
        sql = (
            f"INSERT INTO {TABLE} ({COLUMNS}) VALUES {_values(rows)} "
            f"ON DUPLICATE KEY UPDATE id = id RETURNING {BATCH_ROW}"
        )
        return sql, list(chain.from_iterable(rows))

    def renew(self, ids: Sequence[int], moment: Any) -> tuple[str, list[Any]]:
        wanted = _wanted([(id_,) for id_ in ids], "id")
        sql = f"UPDATE {wanted} {self.BY_ID} SET l.locked_at = %s"
        return sql, [*ids, moment]

    def delete(self, ids: Sequence[int]) -> tuple[str, list[Any]]:
        wanted = _wanted([(id_,) for id_ in ids], "id")
        sql = f"DELETE l FROM {wanted} {self.BY_ID}"
        return sql, list(ids)


def _values(rows: Sequence[Sequence[Any]]) -> str:
    row = f"({', '.join(['%s'] * len(rows[0]))})"
    return ", ".join([row] * len(rows))


def _wanted(rows: Sequence[Sequence[Any]], *names: str) -> str:
    """Return a derived table ``wanted`` that has ``rows``, its columns named ``names``."""
    first = ", ".join(f"%s AS {name}" for name in names)
    more = f" UNION ALL VALUES {_values(rows[1:])}" if rows[1:] else ""
    return f"(SELECT {first}{more}) wanted"


@cache
def statements_for(vendor: str) -> Statements:
    """Return the statements for a database of ``vendor``, as Django names it.

    Raises ``NotImplementedError`` for a database that is not supported.
    """
    dialects = {"postgresql": _postgresql, "sqlite": _sqlite, "mysql": _mariadb}
    if vendor not in dialects:
        raise NotImplementedError(f"django-lock-tokens does not support {vendor} databases.")
    return dialects[vendor]()


def batch_statements_for(vendor: str) -> BatchStatements:
    """Return the statements for many rows; as ``statements_for``."""
    dialects = {"sqlite": _SQLiteBatches, "mysql": _MariaDBBatches}
    return dialects.get(vendor, BatchStatements)()


def read_with_holder(quote: Callable[[str], str], user: type[Model]) -> str:
    """Return ``read`` with one column more: the user name of who holds the lock.

    ``quote`` quotes an identifier for the database, ``user`` is the user model.
    """
    columns = ", ".join(f"l.{column}" for column in ROW.split(", "))
    name: Any = user._meta.get_field(user.USERNAME_FIELD)  # type: ignore[attr-defined]
    key: Any = user._meta.pk
    # A join would take PostgreSQL longer to plan.
    holder = (
        f"SELECT u.{quote(name.column)} FROM {quote(user._meta.db_table)} u "
        f"WHERE u.{quote(key.column)} = l.locked_by_id"
    )
    return (
        f"SELECT {columns}, ({holder}) FROM {TABLE} l "
        "WHERE l.locked_object_content_type_id = %s AND l.locked_object_id = %s"
    )


class ExpiredStatements:
    """Removes a batch of expired locks, those that expired first first, as PostgreSQL has it."""

    # From where the batch before ended: the index still has the entries of the rows removed.
    BATCH = "expires_at >= %s AND expires_at <= %s ORDER BY expires_at LIMIT %s"
    # ARRAY is read once, and rows that somebody holds are left to him.
    remove = (
        f"DELETE FROM {TABLE} WHERE id = ANY(ARRAY("
        f"SELECT id FROM {TABLE} WHERE {BATCH} FOR UPDATE SKIP LOCKED)) RETURNING expires_at"
    )


class _SQLiteExpired(ExpiredStatements):
    remove = (
        f"DELETE FROM {TABLE} WHERE id IN (SELECT id FROM {TABLE} "
        f"WHERE {ExpiredStatements.BATCH}) RETURNING expires_at"
    )


class MariaDBExpiredStatements(_MariaDBBatches):
    """Finds a batch without locking anything, locks what nobody holds of it, and removes that.

    Whoever takes a lock over locks the object's index entry first and the row second. A single
    DELETE by expiry would lock them the other way round, and they would deadlock.
    """

    # Hides the index of the expiry from the optimizer.
    EXPIRED = "COALESCE(l.expires_at) <= %s"
    find = (
        f"SELECT expires_at, id, locked_object_content_type_id, locked_object_id FROM {TABLE} "
        "WHERE expires_at <= %s AND (expires_at > %s OR (expires_at = %s AND id > %s)) "
        "ORDER BY expires_at, id LIMIT %s"
    )

    def hold_expired(
        self, keys: Sequence[tuple[int, str]], newest: Any, skip: str = "SKIP LOCKED"
    ) -> tuple[str, list[Any]]:
        # One object a SELECT: the optimizer may read a join by another index than the object's.
        one = f"(SELECT l.id FROM {TABLE} l WHERE {OBJECT} AND {self.EXPIRED} FOR UPDATE {skip})"
        params = chain.from_iterable((type_, key, newest) for type_, key in keys)
        return " UNION ALL ".join([one] * len(keys)), list(params)

    def delete_expired(self, ids: Sequence[int], newest: Any) -> tuple[str, list[Any]]:
        sql, params = self.delete(ids)
        return f"{sql} WHERE {self.EXPIRED}", [*params, newest]


def expired_statements_for(vendor: str) -> ExpiredStatements:
    """Return the statements that remove expired locks, on a database that is not MariaDB."""
    return _SQLiteExpired() if vendor == "sqlite" else ExpiredStatements()
