import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import lock_tokens.models


class Migration(migrations.Migration):
    """The table of django-lock-tokens 0.2.5, unchanged: databases made by it have it applied."""

    dependencies = [("contenttypes", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="LockToken",
            fields=[
                (
                    "id",
                    models.AutoField(
                        verbose_name="ID", serialize=False, auto_created=True, primary_key=True
                    ),
                ),
                (
                    "token_str",
                    models.CharField(
                        default=lock_tokens.models.get_random_token,
                        unique=True,
                        max_length=32,
                        editable=False,
                    ),
                ),
                ("locked_object_id", models.PositiveIntegerField()),
                (
                    "locked_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False),
                ),
                (
                    "locked_object_content_type",
                    models.ForeignKey(
                        to="contenttypes.ContentType",
                        on_delete=django.db.models.deletion.CASCADE,
                    ),
                ),
            ],
        ),
        migrations.AlterUniqueTogether(
            name="locktoken",
            unique_together={("locked_object_content_type", "locked_object_id")},
        ),
    ]
