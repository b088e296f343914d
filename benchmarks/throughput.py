"""How many locks a second, with how many clients? ``python -m benchmarks.throughput --help``

Each client is a process with a connection of its own. On PostgreSQL, pgbench runs the same two
statements with as many clients in turn: what it does more is what Python costs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks import databases, scale

CLIENTS = {
    "postgresql": [1, 2, 4, 8, 16, 32, 64],
    "sqlite": [1, 2, 4, 8, 16],
    "mariadb": [1, 2, 4, 8, 16],
}
# How many locks of others are there, and how many objects are wanted by all.
LOCKS = 100_000
WANTED = 10


class Outcome(dict[str, Any]):
    """How often something was done by one client, and how long the calls took."""

    def __init__(self, done: int, refused: int, times: list[float]) -> None:
        super().__init__(done=done, refused=refused, times=times)


Work = Callable[["scale.Desk", float], Outcome]


def lock_and_unlock(desk: scale.Desk, until: float) -> Outcome:
    """Take and release the locks of objects that nobody else is likely to want."""
    from lock_tokens.exceptions import AlreadyLockedError
    from lock_tokens.models import LockableModel

    done, refused, times = 0, 0, []
    while (begun := perf_counter()) < until:
        story = desk.story(desk.free())
        try:
            LockableModel.unlock(story, LockableModel.lock(story)["token"])
        except AlreadyLockedError:
            # Two have drawn the same one at once.
            refused += 1
            continue
        times.append(perf_counter() - begun)
        done += 1
    return Outcome(done, refused, times)


def contend(desk: scale.Desk, until: float) -> Outcome:
    """Take and release the locks of a few objects that everybody wants."""
    from lock_tokens.exceptions import AlreadyLockedError
    from lock_tokens.models import LockableModel

    done, refused, times = 0, 0, []
    while (begun := perf_counter()) < until:
        story = desk.story(2 * random.randint(1, WANTED) - 1)
        try:
            token = LockableModel.lock(story)["token"]
            times.append(perf_counter() - begun)
            LockableModel.unlock(story, token)
            done += 1
        except AlreadyLockedError:
            times.append(perf_counter() - begun)
            refused += 1
    return Outcome(done, refused, times)


def save(desk: scale.Desk, until: float) -> Outcome:
    """Save stories under their locks."""
    from benchmarks.rows import token_of
    from lock_tokens.enforcement import holding

    done, times = 0, []
    while (begun := perf_counter()) < until:
        key = desk.written()
        with holding(token_of(key)):
            desk.story(key).save()
        times.append(perf_counter() - begun)
        done += 1
    return Outcome(done, 0, times)


def client(work: Work, seconds: float, ready: Barrier, number: int, results: Any) -> None:
    from django.db import connection

    random.seed(number)
    desk = scale.Desk("default", LOCKS)
    connection.ensure_connection()
    ready.wait(60)
    try:
        results.put(work(desk, perf_counter() + seconds))
    except BaseException as error:
        results.put(f"{type(error).__name__}: {error}")
    finally:
        connection.close()


def run(work: Work, clients: int, seconds: float) -> dict[str, Any]:
    """Let so many clients work at once, and return what they did altogether."""
    from django.db import connections

    connections.close_all()
    context = multiprocessing.get_context("fork")
    ready, outcomes = context.Barrier(clients), context.Queue()
    arguments = (work, seconds, ready)
    processes = [
        context.Process(target=client, args=(*arguments, number, outcomes))
        for number in range(clients)
    ]
    for process in processes:
        process.start()
    found = [outcomes.get(timeout=seconds + 120) for _ in processes]
    for process in processes:
        process.join(60)
    errors = [each for each in found if isinstance(each, str)]
    good = [each for each in found if not isinstance(each, str)]
    times = sorted(time * 1000 for each in good for time in each["times"])
    return {
        "per_second": round(sum(each["done"] for each in good) / seconds, 1),
        "refused": sum(each["refused"] for each in good),
        "errors": errors,
        "median_ms": round(median(times), 2),
        "p99_ms": round(times[int(len(times) * 0.99)], 2),
        "max_ms": round(times[-1], 2),
    }


def pgbench(clients: int, seconds: float) -> dict[str, Any] | None:
    """Let pgbench do what ``lock_and_unlock`` does; ``None`` where there is none."""
    from django.db import connection

    found = shutil.which("pgbench")
    if not found:
        return None
    access = connection.settings_dict
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(pgbench_script())
        script.flush()
        command = [found, "--no-vacuum", "--file", script.name, "--protocol", "simple"]
        command += ["--client", str(clients), "--jobs", "2" if clients > 1 else "1"]
        command += ["--time", str(max(1, round(seconds))), "--host", access["HOST"]]
        command += ["--username", access["USER"], str(access["NAME"])]
        output = subprocess.run(  # noqa: S603
            command,
            env={**os.environ, "PGPASSWORD": access["PASSWORD"]},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    tps = re.search(r"tps = ([\d.]+)", output)
    latency = re.search(r"latency average = ([\d.]+)", output)
    assert tps
    assert latency
    return {"per_second": round(float(tps[1]), 1), "mean_ms": float(latency[1])}


def pgbench_script() -> str:
    """Return the statements of ``lock_and_unlock`` as pgbench fills them in; it draws the keys."""
    from django.db import connection

    from lock_tokens.models import LockableModel

    executed: list[tuple[str, Any]] = []

    def note(run: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        executed.append((sql, params))
        return run(sql, params, many, context)

    story = scale.Desk("default", LOCKS).story(1)
    LockableModel.unlock(story, LockableModel.lock(story)["token"])
    with connection.execute_wrapper(note):
        token = LockableModel.lock(story)["token"]
        LockableModel.unlock(story, token)
    lines = [sql % tuple(literal(each, token) for each in params) for sql, params in executed]
    return "\n".join([f"\\set key 2 * random(1, {LOCKS}) - 1", *(f"{line};" for line in lines), ""])


def literal(value: Any, token: str) -> str:
    """Return a parameter as pgbench is to write it; the key is drawn, and the token made of it."""
    if value == token:
        return "md5(:key || '-' || :client_id)"
    if value == "1":
        return "CAST(:key AS text)"
    if value is None or isinstance(value, int):
        return "NULL" if value is None else str(value)
    return "now()"


def benchmark(vendor: str, counts: list[int], seconds: float) -> dict[str, Any]:
    from benchmarks import rows

    result: dict[str, Any] = {"seconds": seconds, "locks": LOCKS, "runs": []}
    with databases.database():
        result |= databases.describe()
        rows.fill("default", LOCKS)
        rows.add_stories("default", scale.Desk("default", LOCKS).stories)
        for clients in counts:
            found: dict[str, Any] = {"clients": clients}
            if vendor == "postgresql":
                found["pgbench"] = pgbench(clients, seconds)
            for name, work in WORKS.items():
                found[name] = run(work, clients, seconds)
            result["runs"].append(found)
            print(f"{clients} clients: {found['locks']['per_second']}/s", file=sys.stderr)
    return result


WORKS: dict[str, Work] = {"locks": lock_and_unlock, "saves": save, "contended": contend}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=databases.DATABASES, action="append")
    parser.add_argument("--clients", type=int, nargs="+", help="several numbers")
    parser.add_argument("--seconds", type=float, default=2, help="for each number of clients")
    parser.add_argument("--keep", action="store_true", help="store the result for the docs")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    names = options.database or databases.DATABASES
    if not options.child:
        passed = scale.without(arguments, "--database")
        module = "benchmarks.throughput"
        return max(databases.in_own_process(module, name, passed) for name in names)
    databases.set_up()
    scale.tidy_up_when_ended()
    from benchmarks import plots, results

    (name,) = names
    result = benchmark(name, options.clients or CLIENTS[name], options.seconds)
    print("", result["database"], *plots.throughput_tables(result), sep="\n\n")
    errors = [error for found in result["runs"] for of in WORKS for error in found[of]["errors"]]
    print("\n".join(errors), file=sys.stderr)
    if options.keep:
        results.keep("throughput", name, result)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
