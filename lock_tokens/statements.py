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
COLUMNS = (
    "token_str, locked_object_content_type_id, locked_object_id, "
    "locked_at, timeout, locked_by_id, created"
)
ROW = "id, token_str, locked_at, timeout, locked_by_id"
BATCH_ROW = f"{ROW}, locked_object_content_type_id, locked_object_id"
OBJECT = "locked_object_content_type_id = %s AND locked_object_id = %s"
HELD = f"{OBJECT} AND token_str = %s"
INSERT = f"INSERT INTO {TABLE} ({COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s)"
# What a replaced row takes over from the new one. The id is last: MariaDB assigns left to right.
REPLACED = ("locked_at", "timeout", "locked_by_id", "created", "id")


class Statements(NamedTuple):
    """One statement a verb; what each returns is what the verb reads from it."""

    insert: str
    replace: str
    renew: str
    release: str
    remove: str
    read: str
    hold: str
    is_live: str


def _standard() -> Statements:
    """PostgreSQL, and SQLite where it does not differ."""
    conflict = "ON CONFLICT (locked_object_content_type_id, locked_object_id) DO"
    assignments = ", ".join(f"{column} = EXCLUDED.{column}" for column in REPLACED)
    return Statements(
        insert=f"{INSERT} {conflict} NOTHING RETURNING id, token_str",
        # EXCLUDED.id is the sequence's next value: a lock taken over is a new, higher row.
        replace=f"{INSERT} {conflict} UPDATE SET token_str = EXCLUDED.token_str, {assignments} "
        f"WHERE {TABLE}.id = %s AND {TABLE}.expires_at <= %s RETURNING id, token_str",
        renew=f"UPDATE {TABLE} SET locked_at = %s, timeout = COALESCE(%s, timeout) "
        f"WHERE {HELD} RETURNING timeout",
        release=f"DELETE FROM {TABLE} WHERE {HELD} RETURNING {ROW}",
        remove=f"DELETE FROM {TABLE} WHERE {OBJECT} RETURNING {ROW}",
        read=f"SELECT {ROW} FROM {TABLE} WHERE {OBJECT}",
        hold=f"SELECT {ROW} FROM {TABLE} WHERE {OBJECT} FOR UPDATE",
        is_live=f"SELECT 1 FROM {TABLE} WHERE {OBJECT} AND expires_at > %s",
    )


def _sqlite() -> Statements:
    return _standard()._replace(
        # DO UPDATE could not draw a new AUTOINCREMENT id, REPLACE does. NOT EXISTS leaves it
        # nothing to do when the object has any row but the one that was found expired.
        replace=f"INSERT OR REPLACE INTO {TABLE} ({COLUMNS}) SELECT %s, %s, %s, %s, %s, %s, %s "
        f"WHERE NOT EXISTS (SELECT 1 FROM {TABLE} WHERE {OBJECT} "
        "AND NOT (id = %s AND expires_at <= %s)) RETURNING id, token_str",
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
    return _standard()._replace(
        # Not INSERT IGNORE, whose shared lock on the duplicate deadlocks when two go on from it.
        insert=f"{INSERT} ON DUPLICATE KEY UPDATE id = id RETURNING id, token_str",
        replace=f"{INSERT} ON DUPLICATE KEY UPDATE token_str = IF(id = %s AND expires_at <= %s, "
        f"VALUES(token_str), token_str), {follow} RETURNING id, token_str",
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

    With IN the optimizer may read a small table whole, and then locks rows that nobody asked for
    in an order that nobody chose.
    """

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
            f"{_wanted(pairs, 'type', 'object')} STRAIGHT_JOIN {TABLE} l "
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
        sql = f"UPDATE {wanted} STRAIGHT_JOIN {TABLE} l ON l.id = wanted.id SET l.locked_at = %s"
        return sql, [*ids, moment]

    def delete(self, ids: Sequence[int]) -> tuple[str, list[Any]]:
        wanted = _wanted([(id_,) for id_ in ids], "id")
        sql = f"DELETE l FROM {wanted} STRAIGHT_JOIN {TABLE} l ON l.id = wanted.id"
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
    dialects = {"postgresql": _standard, "sqlite": _sqlite, "mysql": _mariadb}
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
    return (
        f"SELECT {columns}, u.{quote(name.column)} FROM {TABLE} l "
        f"LEFT JOIN {quote(user._meta.db_table)} u ON u.{quote(key.column)} = l.locked_by_id "
        "WHERE l.locked_object_content_type_id = %s AND l.locked_object_id = %s"
    )
