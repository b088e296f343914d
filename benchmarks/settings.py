"""Settings of the benchmarks; LOCK_TOKENS_DB picks the database, as it does for the tests."""

import os
import tempfile
from pathlib import Path
from typing import Any

DATABASE = os.environ.get("LOCK_TOKENS_DB", "sqlite")
# Runs at once must not share a database, but the processes of one run do.
NAME = os.environ.setdefault("LOCK_TOKENS_BENCH_DB_NAME", f"lock_tokens_bench_{os.getpid()}")


def sqlite() -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": Path(tempfile.gettempdir()) / f"{NAME}.sqlite3",
        "OPTIONS": {
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }


def server(engine: str, **options: Any) -> dict[str, Any]:
    return {
        "ENGINE": f"django.db.backends.{engine}",
        "NAME": NAME,
        "HOST": os.environ.get("LOCK_TOKENS_DB_HOST", "127.0.0.1"),
        "USER": os.environ.get("LOCK_TOKENS_DB_USER", "lock_tokens"),
        "PASSWORD": os.environ.get("LOCK_TOKENS_DB_PASSWORD", "lock_tokens"),
        **options,
    }


DATABASES = {
    "default": {
        "sqlite": sqlite,
        "postgresql": lambda: server("postgresql"),
        "mariadb": lambda: server("mysql", OPTIONS={"charset": "utf8mb4"}),
    }[DATABASE]()
}
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "lock_tokens",
    "benchmarks.desk",
]
MIDDLEWARE: list[str] = []
ROOT_URLCONF = "benchmarks.desk.urls"
ALLOWED_HOSTS = ["*"]
SECRET_KEY = "only for benchmarks"  # noqa: S105
USE_TZ = True
TIME_ZONE = "UTC"
LOCK_TOKENS: dict[str, Any] = {"ENFORCED_MODELS": {"desk.Story": {}}}
