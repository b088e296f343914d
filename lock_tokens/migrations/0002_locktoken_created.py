import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    """The last migration of django-lock-tokens 0.2.5, unchanged."""

    dependencies = [("lock_tokens", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="locktoken",
            name="created",
            field=models.DateTimeField(auto_now_add=True, default=django.utils.timezone.now),
            preserve_default=False,
        ),
    ]
