"""Run by check.py inside an environment that holds nothing but the installed wheel."""

from importlib.metadata import version
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command
from django.template.loader import get_template

import lock_tokens

PACKAGE = Path(lock_tokens.__file__).parent


def main() -> None:
    assert "site-packages" in PACKAGE.parts, f"not the installed package: {PACKAGE}"
    assert lock_tokens.__version__ == version("django-lock-tokens")
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "lock_tokens"],
        TEMPLATES=[
            {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}
        ],
        SECRET_KEY="only for this check",
        USE_TZ=True,
    )
    django.setup()
    migrate()
    load_templates()
    lock_and_unlock()


def migrate() -> None:
    call_command("check")
    call_command("migrate", verbosity=0)
    call_command("makemigrations", check_changes=True, dry_run=True)


def load_templates() -> None:
    templates = list(PACKAGE.glob("templates/**/*.html"))
    assert templates
    for template in templates:
        get_template(str(template.relative_to(PACKAGE / "templates")))


def lock_and_unlock() -> None:
    from django.contrib.auth.models import User

    from lock_tokens.models import LockableModel, LockToken

    user = User.objects.create_user("alice")
    token = LockableModel.lock(user)["token"]
    assert LockableModel.check_lock(user, token)
    LockableModel.unlock(user, token)
    assert not LockToken.objects.exists()


if __name__ == "__main__":
    main()
