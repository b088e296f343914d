"""Remove locks that have expired and that nobody took over."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from time import perf_counter, sleep
from typing import Any, NamedTuple

from django.core.management.base import BaseCommand, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet

from lock_tokens import locking
from lock_tokens.models import LockToken
from lock_tokens.settings import MAX_TIMEOUT
from lock_tokens.statements import MariaDBExpiredStatements, expired_statements_for

# How many locks a batch has at least, and how many seconds one with more than that may take.
LEAST = 100
SPAN = 0.01


def whole_number(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"{text} is not {least} or more")
    if value > MAX_TIMEOUT:
        raise argparse.ArgumentTypeError(f"{text} is more than {MAX_TIMEOUT}")
    return value


class Place(NamedTuple):
    """The lock that a batch ended with, behind which the next one begins."""

    expires_at: Any
    id: int = -1


def remove_between(connection: BaseDatabaseWrapper, oldest: Any, newest: Any, most: int) -> int:
    """Remove the locks that expired from ``oldest`` to ``newest``; return how many these were.

    Each batch is a transaction of its own, of ``most`` locks at most, and short: who wants to
    take over a lock of it has to wait for its end. What somebody holds is passed over.
    """
    place: Place | None = Place(oldest)
    size, removed = min(most, LEAST), 0
    while place:
        begun = perf_counter()
        count, place = remove_some(connection, place, newest, size)
        took = perf_counter() - begun
        removed += count
        # No more than twice as many as before: one quick batch says little.
        fitting = int(size * SPAN / max(took, SPAN / 2))
        # A commit takes its time however small the batch is.
        size = min(most, max(LEAST, fitting))
        if place and not connection.features.has_select_for_update:
            # Only one can write at a time here. Who waits for that asks again and again, and
            # meets a pause that is as long as the batch.
            sleep(took)
    return removed


def remove_some(
    connection: BaseDatabaseWrapper, place: Place, newest: Any, size: int
) -> tuple[int, Place | None]:
    """Remove ``size`` locks behind ``place``; return how many, and where to go on, if anywhere."""
    if connection.vendor == "mysql":
        return _remove_some_of_mariadb(connection, place, newest, size)
    with connection.cursor() as cursor:
        sql = expired_statements_for(connection.vendor).remove
        cursor.execute(sql, [place.expires_at, newest, size])
        moments = [moment for (moment,) in cursor.fetchall()]
    return len(moments), Place(max(moments)) if len(moments) == size else None


def _remove_some_of_mariadb(
    connection: BaseDatabaseWrapper, place: Place, newest: Any, size: int
) -> tuple[int, Place | None]:
    with connection.cursor() as cursor:
        at = place.expires_at
        cursor.execute(MariaDBExpiredStatements.find, [newest, at, at, place.id, size])
        found = cursor.fetchall()
        removed = _remove_free(connection, found, newest) if found else 0
    return removed, Place(*found[-1][:2]) if len(found) == size else None


def _remove_free(connection: BaseDatabaseWrapper, found: Sequence[Any], newest: Any) -> int:
    statements = MariaDBExpiredStatements()
    keys = [(content_type_id, key) for _, _, content_type_id, key in found]
    # MariaDB 10.5 does not know it.
    can_skip = connection.features.has_select_for_update_skip_locked
    with transaction.atomic(connection.alias), connection.cursor() as cursor:
        skip = "SKIP LOCKED" if can_skip else ""
        cursor.execute(*statements.hold_expired(keys, newest, skip))
        ids = [id_ for (id_,) in cursor.fetchall()]
        if ids:
            cursor.execute(*statements.delete_expired(ids, newest))
        return cursor.rowcount if ids else 0


class Command(BaseCommand):
    help = "Removes expired locks, in batches; their holders can not save any more."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--batch-size",
            type=partial(whole_number, least=1),
            default=1000,
            help="Locks removed at once, at most; fewer where that would take long.",
        )
        parser.add_argument(
            "--older-than",
            type=partial(whole_number, least=0),
            default=0,
            metavar="SECONDS",
            help="Leave the locks that expired less than SECONDS ago.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Only count.")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, choices=tuple(connections))

    def handle(self, *args: Any, **options: Any) -> None:
        before = locking.now() - timedelta(seconds=options["older_than"])
        locks = LockToken.objects.using(options["database"]).filter(expires_at__lte=before)
        if options["dry_run"]:
            self.stdout.write(f"{locks.count()} expired locks would be removed.")
            return
        removed = self._remove(locks, options["batch_size"])
        self.stdout.write(self.style.SUCCESS(f"Successfully removed {removed} expired locks."))

    def _remove(self, locks: QuerySet[LockToken], most: int) -> int:
        ends = locks.order_by("expires_at").values_list("expires_at", flat=True)
        oldest, newest = ends.first(), ends.last()
        if oldest is None:
            return 0
        connection = connections[locks.db]
        moment = connection.ops.adapt_datetimefield_value
        return remove_between(connection, moment(oldest), moment(newest), most)
