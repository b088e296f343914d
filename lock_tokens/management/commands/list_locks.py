"""List the locks: object, holder, since, until."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections, router

from lock_tokens import locking
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
        locks = locks.select_related("locked_object_content_type")
        if router.db_for_write(get_user_model()) == options["database"]:
            locks = locks.select_related("locked_by")
            names = None
        else:
            holders = locks.exclude(locked_by=None).values_list("locked_by_id", flat=True)
            names = locking.user_names(set(holders))
        for lock in locks.order_by("locked_at", "pk").iterator(chunk_size=1000):
            self.stdout.write(self._line(lock, names))

    def _line(self, lock: LockToken, names: dict[Any, str] | None) -> str:
        """Return the columns; ``names`` are those of the holders who are in another database."""
        if names is None:
            holder = lock.locked_by.get_username() if lock.locked_by else None
        else:
            holder = names.get(lock.locked_by_id)
        model = lock.get_locked_model()
        label = model._meta.label if model else str(lock.locked_object_content_type)
        until = lock.get_expiration_datetime()
        columns = (
            f"{label} {lock.locked_object_id}",
            "expired" if lock.has_expired() else "live",
            lock.locked_at.isoformat(sep=" ", timespec="seconds"),
            until.isoformat(sep=" ", timespec="seconds"),
            holder or "-",
        )
        return "\t".join(columns)
