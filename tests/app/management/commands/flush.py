"""Empties the database between tests, in place of Django's own command of this name."""

from typing import Any

from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management.color import no_style
from django.core.management.commands import flush
from django.db import connections

# What migrating makes, and what of it a test could have changed.
MIGRATED = {
    ContentType: ("id", "app_label", "model"),
    Permission: ("id", "content_type", "codename", "name"),
}
MADE: dict[str, list[Any]] = {}


class Command(flush.Command):
    """Between two tests Django truncates all tables and makes permissions and types anew.

    Most of them are empty, and these are as they were: only what a test wrote is deleted. If it
    changed these, or if more is asked for, Django's own way is taken.
    """

    def handle(self, **options: Any) -> None:
        database = options["database"]
        if is_between_tests(options) and MADE.get(database) == migrated(database):
            empty(database)
        else:
            super().handle(**options)
            MADE[database] = migrated(database)


def is_between_tests(options: dict[str, Any]) -> bool:
    # What Django's TransactionTestCase asks for, and no more.
    more = "interactive", "reset_sequences", "allow_cascade", "inhibit_post_migrate"
    return not any(options.get(name, True) for name in more)


def migrated(database: str) -> list[Any]:
    querysets = [model.objects.using(database).order_by("pk") for model in MIGRATED]
    rows = zip(querysets, MIGRATED.values(), strict=True)
    return [list(queryset.values_list(*fields)) for queryset, fields in rows]


def empty(database: str) -> None:
    connection = connections[database]
    kept = {model._meta.db_table for model in MIGRATED}
    tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
    quoted = [connection.ops.quote_name(table) for table in tables if table not in kept]
    looks = ", ".join(f"EXISTS (SELECT 1 FROM {table})" for table in quoted)  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {looks}")
        written = [table for table, some in zip(quoted, cursor.fetchone(), strict=True) if some]
    # A test may have reset all sequences, and these tables keep their rows.
    resets = connection.ops.sequence_reset_sql(no_style(), list(MIGRATED))
    with connection.constraint_checks_disabled():
        deletions = [f"DELETE FROM {table}" for table in written]  # noqa: S608
        connection.ops.execute_sql_flush([*deletions, *resets])
    # As after a migration, where Django forgets them too.
    ContentType.objects.clear_cache()
