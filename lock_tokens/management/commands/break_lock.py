"""Break the lock of one object."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections, router

from lock_tokens import locking
from lock_tokens.settings import is_label
from lock_tokens.targets import target_for


class Command(BaseCommand):
    help = "Breaks the lock of one object; its holder can not save any more."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("model", help="Such as news.Article.")
        parser.add_argument("pk", help="The object's key.")
        parser.add_argument("--reason", required=True, help="Logged, and told to listeners.")
        parser.add_argument(
            "--database",
            choices=tuple(connections),
            help="Where the object is; by default, where the routers write its model.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not is_label(options["model"]):
            raise CommandError(f"{options['model']!r} is no model; name one such as news.Article.")
        try:
            model = apps.get_model(options["model"])
            using = options["database"] or router.db_for_write(model)
            target = target_for(model, options["pk"], using)
        except (LookupError, ValueError) as error:
            raise CommandError(str(error)) from None
        if not options["reason"].strip():
            raise CommandError("--reason must say why.")
        if locking.break_lock(target, reason=options["reason"]) is None:
            raise CommandError(f"{target.label} {target.key} is not locked.")
        self.stdout.write(self.style.SUCCESS(f"Broke the lock of {target.label} {target.key}."))
