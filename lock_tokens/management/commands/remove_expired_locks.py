"""Remove locks that have expired and that nobody took over."""

from __future__ import annotations

import argparse
from datetime import timedelta
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import QuerySet

from lock_tokens import locking
from lock_tokens.models import LockToken
from lock_tokens.settings import MAX_TIMEOUT


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


class Command(BaseCommand):
    help = "Removes expired locks, in batches; their holders can not save any more."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--batch-size",
            type=partial(whole_number, least=1),
            default=1000,
            help="Locks removed by one statement.",
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

    def _remove(self, locks: QuerySet[LockToken], size: int) -> int:
        removed = 0
        while batch := list(locks.order_by("expires_at").values_list("pk", flat=True)[:size]):
            # The condition once more: a lock may have been renewed since it was read. Not
            # delete(), which loads every row where anything listens to post_delete.
            count = locks.filter(pk__in=batch)._raw_delete(locks.db)
            removed += count
        return removed
