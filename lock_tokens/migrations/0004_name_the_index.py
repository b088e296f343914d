from typing import Any

from django.db import migrations

TABLE = "lock_tokens_locktoken"
OBJECT = ["locked_object_content_type_id", "locked_object_id"]
NAME = "lock_tokens_one_per_object"


def name_the_index(apps: Any, schema_editor: Any) -> None:
    """Give the index of one lock an object the name by which statements on MariaDB ask for it.

    Django finds it by its columns, and the other databases need no name.
    """
    connection = schema_editor.connection
    if connection.vendor != "mysql":
        return
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, TABLE)
    names = [
        name for name, facts in found.items() if facts["unique"] and facts["columns"] == OBJECT
    ]
    # It is there if the migration was reversed.
    if NAME not in names:
        old, new = map(schema_editor.quote_name, (names[0], NAME))
        schema_editor.execute(f"ALTER TABLE {TABLE} RENAME INDEX {old} TO {new}")


class Migration(migrations.Migration):
    """An index is told by its name, which Django had made up."""

    dependencies = [("lock_tokens", "0003_text_keys_and_expiry")]

    operations = [migrations.RunPython(name_the_index, migrations.RunPython.noop, atomic=False)]
