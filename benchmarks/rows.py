"""Databases that have locks in them already: as many as one likes, made by the database itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connections

from benchmarks import databases
from benchmarks.desk.models import Story
from lock_tokens.statements import COLUMNS, TABLE

DAY = 86400
# Locks are put on the even keys, so the free ones are to be found all over the table too.
STEP = 2
# One lock in so many has expired.
EXPIRED = 10


@contextmanager
def another_database(alias: str) -> Iterator[None]:
    """Have a migrated database more inside, under ``alias``, and remove it at the end."""
    default = connections["default"]
    sqlite = default.vendor == "sqlite"
    name = str(default.settings_dict["NAME"])
    name = name.replace(".sqlite3", f"_{alias}.sqlite3") if sqlite else f"{name}_{alias}"
    connections.settings[alias] = {**connections.settings["default"], "NAME": name}
    if not sqlite:
        databases._on_server(f"CREATE DATABASE {name}")
    try:
        call_command("migrate", database=alias, verbosity=0)
        yield
    finally:
        connections[alias].close()
        remove_database(name)
        del connections[alias], connections.settings[alias]
        ContentType.objects.clear_cache()


def remove_database(name: str) -> None:
    connection = connections["default"]
    kept = connection.settings_dict["NAME"]
    connection.settings_dict["NAME"] = name
    try:
        databases._drop()
    finally:
        connection.settings_dict["NAME"] = kept


def token_of(key: int) -> str:
    """Return the token of the lock that ``fill`` puts on the object with this ``key``."""
    return hashlib.md5(str(key).encode(), usedforsecurity=False).hexdigest()


def is_expired(key: int) -> bool:
    return key // STEP % EXPIRED == 0


NUMBERS = {
    "postgresql": "(SELECT generate_series({first}::bigint, {last}) AS n) numbers",
    "mysql": "(SELECT seq AS n FROM seq_{first}_to_{last}) numbers",
    "sqlite": "(WITH RECURSIVE counting(n) AS (SELECT {first} UNION ALL "
    "SELECT n + 1 FROM counting WHERE n < {last}) SELECT n FROM counting) numbers",
}
# So long before the parameter, in seconds.
MOMENT = {
    "postgresql": "%s::timestamptz - {seconds} * interval '1 second'",
    "mysql": "%s - INTERVAL {seconds} * 1000000 MICROSECOND",
    # A moment is text here, as Django writes it.
    "sqlite": "strftime('%%Y-%%m-%%d %%H:%%M:%%S', %s, (-{seconds}) || ' seconds') "
    "|| printf('.%%06d', 1 + n %% 999999)",
}
TEXT = {"mysql": "CAST({} AS CHAR)"}
# Numbers that follow each other times this prime are all over the table.
SCATTER = 15485863


def fill(alias: str, count: int, *, first: int = 1, expired: bool | None = None) -> None:
    """Lock ``count`` stories, which need not exist; one in ten of the locks expired, or all.

    The locks were taken one after the other in the course of a day, on objects drawn at random.
    """
    connection = connections[alias]
    vendor = connection.vendor
    if vendor == "sqlite":
        connection.ensure_connection()
        connection.connection.create_function("md5", 1, token_of, deterministic=True)
    number = f"((n * {SCATTER}) %% {count} + {first})"
    key = TEXT.get(vendor, "CAST({} AS text)").format(f"{STEP} * {number}")
    moment = MOMENT[vendor].format(seconds=f"(({count} - n) * {DAY - 600}.0 / {count})")
    live = "1 = 0" if expired else "1 = 1"
    if expired is None:
        live = f"{number} %% {EXPIRED} <> 0"
    sql = (
        f"INSERT INTO {TABLE} ({COLUMNS}) "  # noqa: S608
        f"SELECT md5({key}), %s, {key}, {moment}, "
        f"CASE WHEN {live} THEN {10 * DAY} ELSE 60 END, NULL, %s "
        f"FROM {NUMBERS[vendor].format(first=1, last=count)} ORDER BY n"
    )
    now = datetime.now(timezone.utc)
    adapt = connection.ops.adapt_datetimefield_value
    params = [content_type(alias), adapt(now - timedelta(seconds=120)), adapt(now)]
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
    settle(alias)


def settle(alias: str) -> None:
    """Bring statistics and visibility up to date, as a table of that age would have them."""
    connection = connections[alias]
    statement = {
        "postgresql": f"VACUUM ANALYZE {TABLE}",
        "mysql": f"ANALYZE TABLE {TABLE}",
        "sqlite": "ANALYZE",
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(statement)


def content_type(alias: str) -> int:
    return ContentType.objects.db_manager(alias).get_for_model(Story).pk


def story(alias: str, key: int) -> Story:
    """Return the story with this ``key`` as if it had been read from its database."""
    found = Story(pk=key)
    found._state.db, found._state.adding = alias, False
    return found


def add_stories(alias: str, keys: list[int]) -> None:
    stories = [Story(pk=key) for key in keys]
    Story.objects.using(alias).bulk_create(stories, batch_size=5000)


@contextmanager
def memory(megabytes: int | None) -> Iterator[None]:
    """Let the database keep so much in its cache: 128 MB of MariaDB hold less than a million locks.

    SQLite has 2 MB unless it is told otherwise; PostgreSQL relies on the system's cache.
    """
    vendor = connections["default"].vendor
    if megabytes and vendor == "sqlite":
        options = connections.settings["default"]["OPTIONS"]
        options["init_command"] += f"PRAGMA cache_size=-{megabytes * 1024};"
    if not megabytes or vendor != "mysql":
        yield
        return
    with connections["default"]._nodb_cursor() as cursor:
        cursor.execute("SELECT @@innodb_buffer_pool_size")
        before = cursor.fetchone()[0]
        cursor.execute("SET GLOBAL innodb_buffer_pool_size = %s", [megabytes * 1024**2])
        try:
            yield
        finally:
            cursor.execute("SET GLOBAL innodb_buffer_pool_size = %s", [before])
