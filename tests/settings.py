"""Settings of the test project; LOCK_TOKENS_DB picks the database it runs on."""

import os
import tempfile
from pathlib import Path
from typing import Any

# Two runs at once must not share a database, so the default name is this run's own; it goes
# into the environment for the processes that tests start. Such a process gets the name of the
# test database there (for SQLite: its absolute path) and so opens the same one.
DB_NAME = os.environ.setdefault("LOCK_TOKENS_DB_NAME", f"lock_tokens_{os.getpid()}")


def sqlite() -> dict[str, Any]:
    # A file, because threads share one connection to an in-memory database.
    test_file = Path(tempfile.gettempdir()) / f"{DB_NAME}.sqlite3"
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DB_NAME if Path(DB_NAME).is_absolute() else ":memory:",
        # Tests need not survive a power failure: it waits for no disk, and locks as ever.
        "OPTIONS": {"timeout": 20, "init_command": "PRAGMA synchronous = OFF"},
        "TEST": {"NAME": str(test_file)},
    }


def server(engine: str, **options: Any) -> dict[str, Any]:
    return {
        "ENGINE": f"django.db.backends.{engine}",
        "NAME": DB_NAME,
        "HOST": os.environ.get("LOCK_TOKENS_DB_HOST", "127.0.0.1"),
        "USER": os.environ.get("LOCK_TOKENS_DB_USER", "lock_tokens"),
        "PASSWORD": os.environ.get("LOCK_TOKENS_DB_PASSWORD", "lock_tokens"),
        **options,
    }


def postgresql() -> dict[str, Any]:
    # The same here, for the sessions of the tests alone.
    return server("postgresql", OPTIONS={"options": "-c synchronous_commit=off"})


def mariadb() -> dict[str, Any]:
    return server(
        "mysql",
        OPTIONS={"charset": "utf8mb4"},
        TEST={"CHARSET": "utf8mb4", "COLLATION": "utf8mb4_general_ci"},
    )


DATABASES = {
    "default": {
        "sqlite": sqlite,
        "postgresql": postgresql,
        "mariadb": mariadb,
    }[os.environ.get("LOCK_TOKENS_DB", "sqlite")]()
}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "lock_tokens",
    "tests.app",
    "tests.news",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "lock_tokens.enforcement.middleware.LockTokenMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
ROOT_URLCONF = "tests.urls"
STATIC_URL = "/static/"
SECRET_KEY = "only for tests"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
USE_TZ = True
TIME_ZONE = "UTC"
LOCK_TOKENS: dict[str, Any] = {"ENFORCED_MODELS": {}}
