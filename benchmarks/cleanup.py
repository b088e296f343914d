"""What does it cost to remove a million expired locks? ``python -m benchmarks.cleanup --help``

Every run is a process of its own, whose memory is measured. Another process takes and releases
locks all the time, half of them over locks that are about to be removed, and notes how long each
takes; so it does for a while before, for comparison.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

from benchmarks import databases, scale

# Seconds for which latencies are noted while no command runs.
QUIET = 5.0
# A million expired ones alone, and among so many times as many that are live.
AMONG = (0, 1)


def peak() -> int:
    """Return the most memory that this process ever had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # What getrusage() tells on Linux begins with what the parent had.
        lines = status.read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def remove() -> dict[str, Any]:
    """Run the command in this process; return what it took."""
    from io import StringIO

    from django.core.management import call_command
    from django.db.models.signals import post_delete

    from lock_tokens.models import LockToken

    post_delete.connect(ignore)
    assert not LockToken.objects.filter(token_str="").exists()  # The ORM is loaded.
    out, before = StringIO(), peak()
    call_command("remove_expired_locks", "--dry-run", stdout=StringIO())
    begun = perf_counter()
    call_command("remove_expired_locks", stdout=out)
    took = perf_counter() - begun
    removed = int(out.getvalue().split()[2])
    return {
        "begun": begun,
        "ended": begun + took,
        "removed": removed,
        "seconds": round(took, 2),
        "per_second": round(removed / took),
        "megabytes": round((peak() - before) / 1e6, 1),
    }


def ignore(**kwargs: Any) -> None:
    """Listens to every deletion, as a project's audit log may."""


def remove_bare() -> dict[str, Any]:
    """Remove them all by one statement; return what it took."""
    from django.db import connection

    from lock_tokens import locking
    from lock_tokens.statements import TABLE

    moment = connection.ops.adapt_datetimefield_value(locking.now())
    with connection.cursor() as cursor:
        begun = perf_counter()
        cursor.execute(f"DELETE FROM {TABLE} WHERE expires_at <= %s", [moment])  # noqa: S608
        took, count = perf_counter() - begun, cursor.rowcount
    return {"removed": count, "seconds": round(took, 2), "per_second": round(count / took)}


def disturb(expired: int, path: str) -> None:
    """Take and release locks until told to stop, noting when each began and how long it took.

    Every other one is on an object whose lock has expired, and which may be gone by then.
    """
    from lock_tokens import locking

    desk, stopped = scale.Desk("default", expired), []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    Path(path).touch()
    with Path(path).open("a", encoding="utf-8", buffering=1) as log:
        while not stopped:
            number = random.randint(1, expired)
            target = desk.target(2 * number - number % 2)
            for verb in ("acquire", "release"):
                begun = perf_counter()
                if verb == "acquire":
                    lock = locking.acquire(target)
                else:
                    assert locking.release(target, lock.token)
                log.write(f"{begun} {perf_counter() - begun} {verb}\n")
            # As an editor's request, not as a second load.
            sleep(random.uniform(0, 0.002))


def latencies(path: str, begin: float, end: float) -> dict[str, float]:
    """Return in milliseconds what was noted between the moments ``begin`` and ``end``."""
    lines = [line.split() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    took = sorted(1000 * float(t) for at, t, _ in lines if begin <= float(at) <= end)
    return {
        "calls": len(took),
        "median_ms": round(median(took), 2),
        "p99_ms": round(took[int(len(took) * 0.99)], 2),
        "max_ms": round(took[-1], 2),
        "over_50_ms": sum(each > 50 for each in took),
    }


@contextmanager
def disturbed(expired: int) -> Iterator[str]:
    """Have another process take and release locks inside; give the path of its notes."""
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "latencies")
        other = child("disturb", str(expired), path)
        while not Path(path).exists():
            assert other.poll() is None
            sleep(0.01)
        try:
            yield path
        finally:
            other.terminate()
            assert other.wait(60) == 0


def child(*task: str, **options: Any) -> subprocess.Popen[str]:
    database = os.environ["LOCK_TOKENS_DB"]
    command = [sys.executable, "-m", __spec__.name, "--child", "--database", database]
    return subprocess.Popen([*command, "--task", *task], text=True, **options)  # noqa: S603


def in_child(*task: str) -> dict[str, Any]:
    process = child(*task, stdout=subprocess.PIPE)
    out, _ = process.communicate()
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(out)
    return found


def prepare(expired: int, live: int) -> None:
    from django.db import connection

    from benchmarks import rows
    from lock_tokens.statements import TABLE

    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {TABLE}" if connection.vendor == "sqlite" else TRUNCATE)  # noqa: S608
    rows.fill("default", expired, expired=True)
    if live:
        rows.fill("default", live, first=expired + 1, expired=False)


TRUNCATE = "TRUNCATE TABLE lock_tokens_locktoken"


def benchmark(expired: int) -> dict[str, Any]:
    random.seed(1)
    result: dict[str, Any] = {"expired": expired, "among": []}
    with databases.database():
        from lock_tokens.models import LockToken

        result |= databases.describe()
        for times in AMONG:
            live = times * expired
            found: dict[str, Any] = {"live": live}
            for name in ("bare", "alone"):
                prepare(expired, live)
                found[name] = in_child(name)
                assert LockToken.objects.count() == live
            prepare(expired, live)
            with disturbed(expired) as notes:
                sleep(1)
                begun = perf_counter()
                sleep(QUIET)
                found["quiet"] = latencies(notes, begun, perf_counter())
                found["disturbed"] = run = in_child("alone")
                found["meanwhile"] = latencies(notes, run["begun"], run["ended"])
            assert LockToken.objects.count() - live in (0, 1)
            result["among"].append(found)
            print(f"removed from among {live} live ones", file=sys.stderr)
        result["killed"] = killed(expired)
    return result


def killed(expired: int) -> dict[str, int]:
    """Kill the command while it is at work, and run it again; return what each left."""
    from lock_tokens.models import LockToken

    prepare(expired, 1000)
    process = child("alone", stdout=subprocess.DEVNULL)
    before = expired + 1000
    while LockToken.objects.count() > before * 0.9:
        sleep(0.01)
    process.kill()
    process.wait()
    left = LockToken.objects.count()
    assert LockToken.objects.live().count() == 1000
    again = in_child("alone")
    assert LockToken.objects.count() == 1000
    assert again["removed"] == left - 1000
    return {"left": left - 1000, "live": 1000}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=databases.DATABASES, action="append")
    parser.add_argument("--expired", type=int, default=50_000, help="locks to remove")
    parser.add_argument("--keep", action="store_true", help="store the result for the docs")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--task", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    names = options.database or databases.DATABASES
    if not options.child:
        passed = scale.without(arguments, "--database")
        return max(databases.in_own_process("benchmarks.cleanup", name, passed) for name in names)
    databases.set_up()
    if options.task:
        return perform(*options.task)
    scale.tidy_up_when_ended()
    from benchmarks import plots, results

    (name,) = names
    result = benchmark(options.expired)
    print("", result["database"], *plots.cleanup_tables(result), sep="\n\n")
    if options.keep:
        results.keep("cleanup", name, result)
    return 0


def perform(task: str, *arguments: str) -> int:
    if task == "disturb":
        disturb(int(arguments[0]), arguments[1])
    else:
        print(json.dumps(remove() if task == "alone" else remove_bare()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
