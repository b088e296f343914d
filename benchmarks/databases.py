"""Each benchmark runs in one process a database, and brings a database of its own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

DATABASES = ("sqlite", "postgresql", "mariadb")


def set_up() -> None:
    """Start Django with the settings of the benchmarks."""
    import django

    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    django.setup()


@contextmanager
def database() -> Iterator[None]:
    """Have an empty, migrated database inside, and remove it at the end."""
    from django.core.management import call_command
    from django.db import connection, connections

    _drop()
    if connection.vendor != "sqlite":
        _on_server(f"CREATE DATABASE {connection.settings_dict['NAME']}")
    try:
        call_command("migrate", verbosity=0)
        yield
    finally:
        connections.close_all()
        _drop()


def _drop() -> None:
    from django.db import connection

    name = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite":
        for suffix in ("", "-wal", "-shm"):
            with_suffix = f"{name}{suffix}"
            if os.path.exists(with_suffix):
                os.remove(with_suffix)
        return
    force = " WITH (FORCE)" if connection.vendor == "postgresql" else ""
    _on_server(f"DROP DATABASE IF EXISTS {name}{force}")


def _on_server(statement: str) -> None:
    from django.db import connection

    with connection._nodb_cursor() as cursor:
        cursor.execute(statement)


def describe() -> dict[str, str]:
    """Return what the figures depend on: the machine and the versions."""
    import django
    from django.db import connection

    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT 'SQLite ' || sqlite_version()")
        else:
            cursor.execute("SELECT version()")
        version = str(cursor.fetchone()[0]).split(" (")[0].split("-MariaDB")[0]
    if connection.vendor == "mysql":
        version = f"MariaDB {version}"
    return {
        "database": version,
        "django": django.get_version(),
        "python": platform.python_version(),
        "cores": str(os.cpu_count()),
        "processor": _processor(),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            lines = [line for line in info if line.startswith("model name")]
    except OSError:
        lines = []
    return lines[0].split(":", 1)[1].strip() if lines else platform.processor() or "unknown"


def in_own_process(module: str, name: str, arguments: list[str]) -> int:
    """Run ``python -m module`` on the database ``name``; return its exit status."""
    environment = {**os.environ, "LOCK_TOKENS_DB": name}
    environment.pop("LOCK_TOKENS_BENCH_DB_NAME", None)
    command = [sys.executable, "-m", module, "--database", name, "--child", *arguments]
    return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603
