"""``python -m benchmarks.safety.crowd``: many processes want one lock at the same instant.

In each round all of them wait at a barrier; then one must win and all others must be refused,
whether the lock is free or expired, in autocommit and inside atomic().
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import product
from mmap import mmap
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

from benchmarks import databases, results
from benchmarks.safety import report, servers
from benchmarks.safety.__main__ import FOLDER, cleared, start, temporary_folder, wait
from benchmarks.safety.processes import end_on_signals, fork

WON, REFUSED, FAILED = b"W", b"R", b"F"
# Seconds until a round counts as hanging.
PATIENCE = 120
STATES = ("free", "expired")
BLOCKS = ("autocommit", "atomic")


@dataclass
class Case:
    """A state of the lock, and whether it is wanted inside a transaction."""

    state: str
    block: str
    # How many winners a round had, and in how many rounds.
    winners: Counter[int] = field(default_factory=Counter)
    refused: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    seconds: float = 0

    @property
    def failed(self) -> bool:
        return bool(self.errors) or set(self.winners) != {1}


class Crowd:
    """``size`` processes; each round is one step of ``cases`` for all of them."""

    def __init__(self, size: int, rounds: int, folder: Path) -> None:
        self.size = size
        self.rounds = rounds
        self.folder = folder
        self.cases = [Case(state, block) for state, block in product(STATES, BLOCKS)]
        # The parent is the last at the barrier.
        self.barrier = multiprocessing.get_context("fork").Barrier(size + 1)
        self.outcomes = mmap(-1, size)
        self.people: list[int] = []
        self.story: Any = None

    def run(self) -> None:
        from django.db import connections

        self._prepare()
        connections.close_all()
        for number in range(self.size):
            self.people.append(fork(partial(self._take_part, number)))
        try:
            for case in self.cases:
                self._play(case)
        finally:
            self.barrier.abort()
            for pid in self.people:
                os.waitpid(pid, 0)

    def _prepare(self) -> None:
        from django.contrib.contenttypes.models import ContentType

        from benchmarks.desk.models import Story

        self.story = Story._default_manager.create(pk=1)
        ContentType.objects.get_for_model(Story)

    def _play(self, case: Case) -> None:
        for _ in range(self.rounds):
            self._set_up(case)
            # Ready, and done.
            self.barrier.wait(PATIENCE)
            begun = time.monotonic()
            self.barrier.wait(PATIENCE)
            case.seconds += time.monotonic() - begun
            self._count(case)

    def _set_up(self, case: Case) -> None:
        from django.utils import timezone

        from lock_tokens.models import LockableModel, LockToken

        LockToken.objects.break_lock(self.story, reason="the next round")
        if case.state == "expired":
            LockableModel.lock(self.story)
            LockToken.objects.update(locked_at=timezone.now() - timedelta(days=1))

    def _count(self, case: Case) -> None:
        from lock_tokens.models import LockToken

        found = [self.outcomes[n : n + 1] for n in range(self.size)]
        case.winners[found.count(WON)] += 1
        case.refused += found.count(REFUSED)
        for number in (n for n, outcome in enumerate(found) if outcome == FAILED):
            case.errors[(self.folder / f"error-{number}").read_text(encoding="utf-8")] += 1
        if LockToken.objects.count() != 1:
            case.errors["not one lock is left"] += 1

    def _take_part(self, number: int) -> None:
        from django.db import connection, transaction

        connection.ensure_connection()
        blocks: dict[str, Callable[[], Any]] = {
            "autocommit": nullcontext,
            "atomic": transaction.atomic,
        }
        # Broken by the parent when it fails.
        with suppress(BrokenBarrierError):
            for case in self.cases:
                for _ in range(self.rounds):
                    self.barrier.wait(PATIENCE)
                    self.outcomes[number : number + 1] = self._outcome(number, blocks[case.block])
                    self.barrier.wait(PATIENCE)
        connection.close()

    def _outcome(self, number: int, block: Callable[[], Any]) -> bytes:
        from lock_tokens.exceptions import AlreadyLockedError
        from lock_tokens.models import LockableModel

        try:
            with block():
                LockableModel.lock(self.story, timeout=3600)
        except AlreadyLockedError:
            return REFUSED
        except Exception as error:
            text = f"{type(error).__name__}: {error}".split("\n")[0]
            (self.folder / f"error-{number}").write_text(text, encoding="utf-8")
            return FAILED
        return WON


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.safety.crowd", description=__doc__)
    add = made.add_argument
    add("--database", choices=databases.DATABASES, action="append", help="default: all")
    add("--processes", type=int, default=125, help="how many want the lock (125)")
    add("--rounds", type=int, default=100, help="of each of the four cases (100)")
    add("--server", choices=("private", "shared"), help="one started for this run, or the tests'")
    add("--keep", action="store_true", help="keep the results for the docs")
    add("--child", action="store_true", help=argparse.SUPPRESS)
    return made


@contextmanager
def prepared(name: str, options: argparse.Namespace) -> Iterator[Path]:
    folder = Path(os.environ[FOLDER])
    private = options.server != "shared" and servers.can_be_private(name)
    with cleared(folder), servers.private(name, folder) if private else nullcontext():
        databases.set_up()
        with databases.database():
            yield folder


def run_one(options: argparse.Namespace) -> int:
    name = options.database[-1]
    with prepared(name, options) as folder:
        crowd = Crowd(options.processes, options.rounds, folder)
        crowd.run()
        machine = databases.describe()
    rows = [_row(case) for case in crowd.cases]
    print(f"\n{machine['database']}, {options.processes} processes, {options.rounds} rounds")
    print(results.table(report.CROWD, rows), flush=True)
    failed = any(case.failed for case in crowd.cases)
    if options.keep and not failed:
        kept = {"processes": options.processes, "rounds": options.rounds}
        results.keep("crowd", name, {"machine": machine, **kept, "rows": rows})
    return int(failed)


def _row(case: Case) -> list[str]:
    rounds = sum(case.winners.values())
    return [
        case.state,
        case.block,
        ", ".join(str(count) for count in sorted(case.winners)),
        f"{case.refused:,}",
        ", ".join(f"{count} x {error}" for error, count in case.errors.items()) or "none",
        f"{case.seconds / max(rounds, 1):.2f}",
    ]


def main() -> int:
    options = parser().parse_args()
    end_on_signals()
    if options.child:
        return run_one(options)
    failed = 0
    with temporary_folder() as folder:
        for name in options.database or databases.DATABASES:
            process = start(name, folder, "benchmarks.safety.crowd")
            try:
                failed |= wait([process])
            finally:
                process.terminate()
                process.wait()
    if options.keep:
        report.write_tables()
    return failed


if __name__ == "__main__":
    sys.exit(main())
