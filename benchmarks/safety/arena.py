"""One run: workers, and what is done to them."""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import time
from collections import Counter
from contextlib import suppress
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import DatabaseError, connection, connections

from benchmarks.desk.models import Note, Story
from benchmarks.safety import journal, plan, verdict
from benchmarks.safety.outcome import Outcome
from benchmarks.safety.processes import fork
from benchmarks.safety.servers import Server
from benchmarks.safety.worker import Worker
from lock_tokens.enforcement import suspended
from lock_tokens.models import LockToken

# Seconds in which a worker that is asked to stop has to, and all connections have to be gone.
PATIENCE = 45


class Arena:
    """Lets workers fight for rows, and judges what is left."""

    def __init__(self, options: plan.Plan, server: Server | None) -> None:
        self.plan = options
        self.server = server
        self.random = random.Random(f"{options.seed} chaos")
        self.board = plan.Board()
        # The number of each living worker by its process, and when the others were found dead.
        self.living: dict[int, int] = {}
        self.deaths: dict[int, float] = {}
        self.stopped: dict[int, float] = {}
        self.started = 0
        self.happened: Counter[str] = Counter()
        self.troubles: list[str] = []
        self.due = {kind: self._first(kind) for kind in sorted(options.chaos)}

    def run(self) -> Outcome:
        self._prepare()
        begun = time.monotonic()
        try:
            self._fight(begun)
            seconds = time.monotonic() - begun
            self._finish()
        finally:
            for pid in self.living:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        self._wait_for_silence()
        return self._judge(seconds)

    def _prepare(self) -> None:
        shutil.rmtree(self.plan.journals, ignore_errors=True)
        self.plan.journals.mkdir()
        with suspended(reason="the benchmark begins anew"):
            for model in (Story, Note, LockToken):
                model._base_manager.all().delete()
        keys = range(1, self.plan.rows + 1)
        Story._default_manager.bulk_create(Story(pk=pk, title=verdict.START) for pk in keys)
        ContentType.objects.get_for_model(Story)
        # Refusals are counted instead.
        logging.getLogger("lock_tokens").setLevel(logging.CRITICAL)
        # Each worker is to open its own.
        connections.close_all()

    def _fight(self, begun: float) -> None:
        for _ in range(self.plan.workers):
            self._start()
        while not self._is_over(begun):
            now = time.monotonic() - begun
            for kind in [kind for kind, due in self.due.items() if due <= now]:
                getattr(self, kind)()
                self.due[kind] = now + self.random.expovariate(1 / plan.EVERY[kind])
            self._resume(now=time.monotonic())
            self._reap()
            while len(self.living) < self.plan.workers:
                self._start()
            time.sleep(0.01)

    def _is_over(self, begun: float) -> bool:
        if self.plan.seconds and time.monotonic() - begun > self.plan.seconds:
            return True
        wanted = self.plan.increments
        return bool(wanted and self.board.total(self.started) >= wanted)

    def _start(self) -> None:
        worker = Worker(self.started, self.plan, self.board)
        self.living[fork(worker.run)] = self.started
        self.started += 1

    def _reap(self) -> None:
        for pid in list(self.living):
            if os.waitpid(pid, os.WNOHANG)[0]:
                self._bury(pid)
                self.troubles.append("a worker ended by itself")

    def _bury(self, pid: int) -> None:
        self.stopped.pop(pid, None)
        self.deaths[self.living.pop(pid)] = time.monotonic()

    def _resume(self, now: float) -> None:
        for pid in [pid for pid, until in self.stopped.items() if until <= now]:
            del self.stopped[pid]
            os.kill(pid, signal.SIGCONT)

    def _finish(self) -> None:
        """Let the workers end what they are doing; who does not end hangs."""
        self._resume(now=float("inf"))
        self.board.stop()
        end = time.monotonic() + PATIENCE
        while self.living and time.monotonic() < end:
            for pid in list(self.living):
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    self._bury(pid)
                    if status:
                        self.troubles.append("a worker ended with an error")
            time.sleep(0.01)
        for pid in list(self.living):
            self._end_one_that_hangs(pid)

    def _end_one_that_hangs(self, pid: int) -> None:
        number = self.living[pid]
        os.kill(pid, signal.SIGUSR1)
        time.sleep(0.2)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self._bury(pid)
        stack = (self.plan.folder / f"stack-{number}").read_text(encoding="utf-8")
        self.troubles.append(f"worker {number} hangs: {stack}")

    # What may happen to the workers.

    def _first(self, kind: str) -> float:
        if kind == "restart":
            return plan.FIRST_RESTART
        return self.random.expovariate(1 / plan.EVERY[kind])

    def _victim(self) -> int | None:
        running = [pid for pid in self.living if pid not in self.stopped]
        return self.random.choice(running) if running else None

    def kill(self) -> None:
        pid = self.random.choice(list(self.living))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self._bury(pid)
        self.happened["kill"] += 1

    def stop(self) -> None:
        pid = self._victim()
        # One at least goes on.
        if pid and len(self.stopped) < len(self.living) - 1:
            os.kill(pid, signal.SIGSTOP)
            self.stopped[pid] = time.monotonic() + self.random.uniform(*plan.STOPPED)
            self.happened["stop"] += 1

    def drop(self) -> None:
        """Cut one connection, as an administrator does."""
        if connection.vendor == "sqlite":
            return
        with connection.cursor() as cursor:
            others = self._others(cursor)
            if others:
                end = "SELECT pg_terminate_backend(%s)"
                if connection.vendor == "mysql":
                    end = "KILL %s"
                self._cut(cursor, end, self.random.choice(others))
        connections.close_all()

    def _cut(self, cursor: Any, statement: str, victim: int) -> None:
        # It may have ended by itself meanwhile.
        with suppress(DatabaseError):
            cursor.execute(statement, [victim])
            self.happened["drop"] += 1

    def _others(self, cursor: Any) -> list[int]:
        """Return the ids of the connections of the workers."""
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND backend_type = 'client backend' ORDER BY pid"
            )
        else:
            cursor.execute(
                "SELECT id FROM information_schema.processlist WHERE db = database() "
                "AND id <> connection_id() ORDER BY id"
            )
        return [pid for (pid,) in cursor.fetchall()]

    def restart(self) -> None:
        """Shut the server down and start it again, or let it crash and recover."""
        if self.server is None:
            return
        crashing = self.random.random() < 0.5
        self.server.restart(crashing=crashing)
        self.happened["crash" if crashing else "restart"] += 1

    # What is left.

    def _wait_for_silence(self) -> None:
        """Wait until the server has ended what was under way for those that are gone."""
        if connection.vendor == "sqlite":
            return
        end = time.monotonic() + PATIENCE
        with connection.cursor() as cursor:
            while self._others(cursor) and time.monotonic() < end:
                time.sleep(0.05)
            if self._others(cursor):
                self.troubles.append("a statement of a dead worker hangs on the server")

    def _judge(self, seconds: float) -> Outcome:
        journals = {n: journal.read(self.plan.journals / str(n)) for n in range(self.started)}
        evidence = verdict.gather(journals, self.deaths)
        rows = [
            verdict.Row(s.pk, s.title, s.counter) for s in Story._default_manager.order_by("pk")
        ]
        notes = Note._default_manager.values_list("title", flat=True)
        survived = {mark for row in rows for mark in verdict.chain(row, evidence.tries)}
        acknowledged = set(evidence.acknowledged)
        unknown = set(evidence.tries) - acknowledged - evidence.refused_writes
        overlaps, disorder = verdict.overlaps(evidence), verdict.out_of_order(evidence)
        details = [f"overlap: {a} {b}" for a, b in overlaps]
        details += [f"out of order: {a} {b}" for a, b in disorder]
        details += [event["trace"] for event in evidence.errors]
        return Outcome(
            plan=self.plan,
            seconds=round(seconds, 1),
            acknowledged=len(acknowledged),
            found_written=len(unknown & survived),
            found_unwritten=len(unknown - survived),
            final=sum(row.counter for row in rows),
            lost=len(acknowledged - survived),
            refused=dict(sorted(evidence.refusals.items())),
            grants=len(evidence.grants),
            taken_over=evidence.taken_over,
            breaks=len(evidence.breaks),
            overlaps=len(overlaps),
            out_of_order=len(disorder),
            deadlocks=evidence.deadlocks,
            happened=dict(sorted(self.happened.items())),
            cut_off=evidence.cut_off,
            errors=dict(Counter(event["what"] for event in evidence.errors)),
            flaws=[*verdict.flaws(rows, evidence, notes), *self.troubles],
            details=details,
        )
