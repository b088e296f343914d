"""List the locks: object, holder, since, until."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections

from lock_tokens.models import LockToken


class Command(BaseCommand):
    help = "Lists locks, the oldest first: object, state, since, until and holder. Never a token."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--live", action="store_true", help="Leave out the expired ones.")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, choices=tuple(connections))

    def handle(self, *args: Any, **options: Any) -> None:
        locks = LockToken.objects.using(options["database"])
        if options["live"]:
            locks = locks.live()
        locks = locks.select_related("locked_by", "locked_object_content_type")
        for lock in locks.order_by("locked_at", "pk").iterator(chunk_size=1000):
            self.stdout.write(self._line(lock))

    def _line(self, lock: LockToken) -> str:
        model = lock.get_locked_model()
        label = model._meta.label if model else str(lock.locked_object_content_type)
        until = lock.get_expiration_datetime()
        columns = (
            f"{label} {lock.locked_object_id}",
            "expired" if lock.has_expired() else "live",
            lock.locked_at.isoformat(sep=" ", timespec="seconds"),
            until.isoformat(sep=" ", timespec="seconds"),
            lock.locked_by.get_username() if lock.locked_by else "-",
        )
        return "\t".join(columns)
