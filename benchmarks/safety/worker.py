"""One worker: takes a lock, reads, thinks, writes one more, releases; again and again."""

from __future__ import annotations

import faulthandler
import random
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, cast

from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction
from django.utils import timezone

from benchmarks.desk.models import Note, Story
from benchmarks.safety import controls, plan
from benchmarks.safety.journal import Journal
from lock_tokens import locking, signals
from lock_tokens.enforcement import holding, suspended
from lock_tokens.exceptions import AlreadyLockedError, LockTokensError, StaleToken
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.targets import target_of

WRITTEN = ["title", "counter"]


def save(story: Story) -> None:
    story.save()


def save_fields(story: Story) -> None:
    story.save(update_fields=WRITTEN)


def save_and_note(story: Story) -> None:
    """Write something else in the same transaction; both or neither must be there."""
    with transaction.atomic():
        story.save()
        Note._default_manager.create(title=story.title, counter=story.counter)


def update(story: Story) -> None:
    found = Story._default_manager.filter(pk=story.pk)
    assert found.update(title=story.title, counter=story.counter) == 1


def bulk_update(story: Story) -> None:
    assert Story._default_manager.bulk_update([story], WRITTEN) == 1


# What the servers say when they end a connection: PostgreSQL also nothing at all.
CUT_OFF: set[str | int | None] = {None, "57P01", "57P02", "57P03", "08000", "08003", "08006"}
# MariaDB: cannot connect, gone away, lost, shutting down, killed.
CUT_OFF |= {1053, 1927, 2002, 2003, 2006, 2013, 2055}

DEADLOCK = 1213


def is_cut_off(error: Exception) -> bool:
    """Tell whether the connection ended, and not just a statement was wrong."""
    if connection.vendor == "sqlite":
        return False
    if connection.connection is None or not connection.is_usable():
        return True
    # Leaving atomic() has opened a new one meanwhile.
    code = error.args[0] if connection.vendor == "mysql" else _sqlstate(error)
    return isinstance(error, (OperationalError, InterfaceError)) and code in CUT_OFF


def _sqlstate(error: Exception) -> Any:
    return getattr(error.__cause__, "sqlstate", None)


ROADS: dict[str, Callable[[Story], None]] = {
    road.__name__: road for road in (save, save_fields, save_and_note, update, bulk_update)
}
WITHOUT_TRANSACTION = ["save", "save_fields", "update"]


class Worker:
    """``number`` is its own; its random choices and its clock follow from it and the seed."""

    def __init__(self, number: int, options: plan.Plan, board: plan.Board) -> None:
        self.number = number
        self.plan = options
        self.board = board
        self.random = random.Random(f"{options.seed} {number}")
        self.journal = Journal(options.journals / str(number))
        self.offset = timedelta(seconds=self.random.uniform(-plan.SKEW, plan.SKEW))
        self.cycle = 0
        # Whether all steps of this cycle are one transaction.
        self.in_transaction = False
        self.roads = list(ROADS)
        self.whole = plan.WHOLE
        if options.control == "no-row-lock" and connection.vendor == "sqlite":
            self.roads, self.whole = WITHOUT_TRANSACTION, 0

    def now(self) -> datetime:
        return timezone.now() + self.offset

    def run(self) -> None:
        with open(self.plan.folder / f"stack-{self.number}", "w", encoding="utf-8") as stack:
            faulthandler.register(signal.SIGUSR1, stack, all_threads=True)
            locking.now = self.now
            signals.lock_taken_over.connect(self.on_taken_over)
            if self.plan.control:
                controls.SET_UP[self.plan.control]()
            self.journal.write("born", offset=self.offset.total_seconds())
            with connection.execute_wrapper(self.pausing):
                while not self.board.stopped:
                    self.play()
            self.journal.write("done")
        connection.close()

    def pausing(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        """Wait a little just before a story is written, whatever protects it."""
        about_to = sql.startswith(('UPDATE "desk_story"', "UPDATE `desk_story`"))
        if about_to and self.random.random() < plan.PAUSED:
            time.sleep(self.random.uniform(0, plan.PAUSE))
        return execute(sql, params, many, context)

    def play(self) -> None:
        """Increment one row, or break the lock that is in the way."""
        pk = self.random.randint(1, self.plan.rows)
        refusal = self.attempt(partial(self.increment, pk))
        if isinstance(refusal, AlreadyLockedError) and self.random.random() < plan.BROKEN:
            self.attempt(partial(self.break_lock, pk))
        if refusal:
            time.sleep(self.random.uniform(0, 0.005))

    def attempt(self, step: Callable[[], None]) -> LockTokensError | None:
        """Do ``step`` and note what came of it; return the refusal, if that is what came."""
        self.cycle += 1
        try:
            step()
        except LockTokensError as error:
            self.note("refused", what=type(error).__name__)
            return error
        except (DatabaseError, InterfaceError) as error:
            self.after_database_error(error)
        except Exception as error:
            self.note_error(error)
        return None

    def after_database_error(self, error: Exception) -> None:
        if is_cut_off(error):
            self.note("cut off")
            connection.close()
            time.sleep(self.random.uniform(0, 0.2))
        elif self.in_transaction and connection.vendor == "mysql" and error.args[0] == DEADLOCK:
            # MariaDB has undone the transaction.
            self.note("deadlock")
        else:
            self.note_error(error)

    def increment(self, pk: int) -> None:
        self.in_transaction = self.random.random() < self.whole
        if self.in_transaction:
            self.in_one_transaction(pk)
        else:
            self.step_by_step(pk)

    def note(self, event: str, **facts: Any) -> None:
        self.journal.write(event, cycle=self.cycle, **facts)

    def on_taken_over(self, **kwargs: Any) -> None:
        self.note("taken over")

    def note_error(self, error: Exception) -> None:
        lines = traceback.format_exception(error)
        self.note("error", what=type(error).__name__, message=str(error), trace="".join(lines))

    def step_by_step(self, pk: int) -> None:
        lock = self.take(pk, whole=False)
        self.acknowledge(*self.write(pk, lock))
        if self.random.random() >= plan.FORGOTTEN:
            self.release(pk, lock)

    def in_one_transaction(self, pk: int) -> None:
        with transaction.atomic():
            lock = self.take(pk, whole=True)
            written = self.write(pk, lock)
            self.release(pk, lock)
        self.acknowledge(*written)

    def take(self, pk: int, *, whole: bool) -> locking.Lock:
        timeout = self.random.choice(plan.TIMEOUTS)
        clock = self.now().timestamp()
        self.note("ask", story=pk, clock=clock, timeout=timeout, whole=whole)
        # As LockableModel.lock does, which returns no fencing number.
        lock = locking.acquire(target_of(Story(pk=pk)), timeout=timeout)
        expires, clock = lock.expires_at.timestamp(), self.now().timestamp()
        self.note("grant", story=pk, id=lock.id, expires=expires, clock=clock)
        return lock

    def write(self, pk: int, lock: locking.Lock) -> tuple[str, float | None]:
        """Return the mark of the write, and when the lock ends if the write has renewed it."""
        story = Story._default_manager.get(pk=pk)
        self.think()
        previous, story.title = story.title, f"{self.number}.{self.cycle}"
        story.counter += 1
        road = self.random.choice(self.roads)
        mark, value = story.title, story.counter
        self.note("try", story=pk, mark=mark, previous=previous, value=value, road=road)
        now = self.now()
        # The guard does, unless it was taken away.
        renews = (
            not self.plan.control and (lock.expires_at - now).total_seconds() < lock.timeout / 2
        )
        with self.protection(story, lock.token):
            ROADS[road](story)
        return mark, now.timestamp() + lock.timeout if renews else None

    def protection(self, story: Story, token: str) -> AbstractContextManager[Any]:
        if self.plan.control != "check-then-save":
            return holding(token)
        if not LockableModel.check_lock(cast(Any, story), token):
            raise StaleToken(model_label="desk.Story", pk=story.pk)
        return suspended(reason="the control")

    def think(self) -> None:
        if self.random.random() < self.plan.long_thoughts:
            time.sleep(self.random.uniform(*plan.LONG_THOUGHT))
        else:
            time.sleep(self.random.uniform(0, plan.THOUGHT))

    def acknowledge(self, mark: str, expires: float | None) -> None:
        self.note("ack", mark=mark, expires=expires)
        self.board.count(self.number)

    def release(self, pk: int, lock: locking.Lock) -> None:
        self.note("release", story=pk, id=lock.id)
        LockableModel.unlock(cast(Any, Story(pk=pk)), lock.token)

    def break_lock(self, pk: int) -> None:
        self.in_transaction = False
        self.note("break", story=pk)
        done = LockToken.objects.break_lock(Story(pk=pk), reason="the benchmark")
        self.note("broken", story=pk, done=done)
