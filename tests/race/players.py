"""Threads that each have a connection of their own, and meet at chosen statements."""

import re
from contextlib import contextmanager
from threading import Event, Thread

from django.db import connection, connections

from lock_tokens.exceptions import LockTokensError

# Seconds that one side gives the other for what it must not be able to do, and for what it can
# do, however busy the machine is.
PATIENCE = 0.4
TIME_ENOUGH = 15


class Worker(Thread):
    """Runs ``work`` on a connection of its own; ``refused`` is the refusal it got, if any."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self.work = work
        self.refused = None
        self.error = None

    def run(self):
        try:
            self.work()
        except LockTokensError as error:
            self.refused = error
        except BaseException as error:
            self.error = error
        finally:
            connections.close_all()


def outcomes(*works):
    """Run the works at once; return the refusal or error of each, ``None`` if it was done."""
    workers = [Worker(work) for work in works]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
        assert not worker.is_alive(), "a writer hangs"
    return [worker.refused or worker.error for worker in workers]


def play(*works):
    """Run the works at once; return how many were acknowledged, the others were refused."""
    found = outcomes(*works)
    for error in found:
        if error is not None and not isinstance(error, LockTokensError):
            raise error
    return found.count(None)


@contextmanager
def before(statement, action):
    """Run ``action``, once, when this thread is about to execute ``statement``.

    That is a regular expression for how the statement begins, without quotes.
    """
    waiting = [action]

    def execute(run, sql, params, many, context):
        if waiting and re.match(statement, re.sub('["`]', "", sql)):
            waiting.pop()()
        return run(sql, params, many, context)

    with connection.execute_wrapper(execute):
        yield
    assert not waiting, f"{statement} was not executed"


def interleaved(first, second, *, at, patience=PATIENCE):
    """Let ``second`` go as far as it gets while ``first`` is about to execute ``at``.

    Returns the outcome of both.
    """
    reached, done = Event(), Event()

    def pausing():
        reached.set()
        done.wait(patience)

    def one():
        try:
            with before(at, pausing):
                first()
        finally:
            reached.set()

    def two():
        assert reached.wait(TIME_ENOUGH)
        try:
            second()
        finally:
            done.set()

    return outcomes(one, two)
