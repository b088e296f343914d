from typing import Any

import django.db.models.deletion
import django.utils.timezone
import model_utils.fields
from django.apps import apps as installed
from django.conf import settings
from django.db import migrations, models

import lock_tokens.fields
import lock_tokens.models
from lock_tokens.targets import root_of


def file_under_roots(apps: Any, schema_editor: Any) -> None:
    """Move the locks of multi-table children to where the same objects are locked now."""
    alias = schema_editor.connection.alias
    locks = apps.get_model("lock_tokens", "LockToken").objects.using(alias)
    types = apps.get_model("contenttypes", "ContentType").objects.using(alias)
    for content_type in types.filter(pk__in=locks.values("locked_object_content_type")):
        try:
            model: type[models.Model] = installed.get_model(
                content_type.app_label, content_type.model
            )
        except LookupError:
            continue
        root = root_of(model)._meta
        if root.concrete_model is model._meta.concrete_model:
            continue
        root_type, _ = types.get_or_create(app_label=root.app_label, model=root.model_name)
        taken = list(
            locks.filter(locked_object_content_type=root_type).values_list(
                "locked_object_id", flat=True
            )
        )
        locks.filter(locked_object_content_type=content_type).exclude(
            locked_object_id__in=taken
        ).update(locked_object_content_type=root_type)
    if schema_editor.connection.vendor == "postgresql":
        # It alters no table for which a check of foreign keys is still due.
        schema_editor.connection.check_constraints()


class Migration(migrations.Migration):
    """Keys of any type, 64-bit ids, a timeout and a holder a lock, and an indexed expiry."""

    dependencies = [
        ("contenttypes", "0002_remove_content_type_name"),
        ("lock_tokens", "0002_locktoken_created"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RunPython(file_under_roots, migrations.RunPython.noop, elidable=True),
        migrations.AlterModelOptions(
            name="locktoken",
            options={
                "permissions": (("break_lock", "Can break the lock of somebody else"),),
                "verbose_name": "lock",
                "verbose_name_plural": "locks",
            },
        ),
        migrations.AddField(
            model_name="locktoken",
            name="locked_by",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="locktoken",
            name="timeout",
            field=models.PositiveIntegerField(
                default=lock_tokens.models.get_default_timeout, editable=False
            ),
        ),
        migrations.AlterField(
            model_name="locktoken",
            name="created",
            field=model_utils.fields.AutoCreatedField(
                default=django.utils.timezone.now, editable=False
            ),
        ),
        migrations.AlterField(
            model_name="locktoken",
            name="id",
            field=models.BigAutoField(primary_key=True, serialize=False),
        ),
        migrations.AlterField(
            model_name="locktoken",
            name="locked_object_content_type",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                to="contenttypes.contenttype",
            ),
        ),
        migrations.AlterField(
            model_name="locktoken",
            name="locked_object_id",
            field=lock_tokens.fields.ExactCharField(max_length=255),
        ),
        migrations.AlterField(
            model_name="locktoken",
            name="token_str",
            field=lock_tokens.fields.ExactCharField(
                default=lock_tokens.models.get_random_token,
                editable=False,
                max_length=32,
                unique=True,
            ),
        ),
        migrations.AddField(
            model_name="locktoken",
            name="expires_at",
            field=models.GeneratedField(
                db_index=True,
                db_persist=True,
                expression=lock_tokens.fields.SecondsLater("locked_at", "timeout"),
                output_field=models.DateTimeField(),
            ),
        ),
    ]
