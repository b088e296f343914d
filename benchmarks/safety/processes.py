"""Processes that end with the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

PR_SET_PDEATHSIG = 1


def die_with_parent(number: signal.Signals) -> None:
    """Let the kernel send ``number`` to this process when its parent dies (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_on_signals() -> None:
    """Let the signals that end a process end this one in order: what is open is closed."""
    for number in ENDING:
        signal.signal(number, _exit)


def _exit(number: int, frame: FrameType | None) -> None:
    # Closing takes its time and must not be ended, too.
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


def fork(work: Callable[[], object]) -> int:
    """Run ``work`` in a copy of this process, which ends with it; return its process id.

    The copy shares whatever is open, so no database connection may be.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    # A signal that came in the middle of it would be lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    pid = os.fork()
    if pid == 0:
        _be_child(work, parent)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    return pid


def _be_child(work: Callable[[], object], parent: int) -> NoReturn:
    status = 1
    try:
        die_with_parent(signal.SIGKILL)
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        if os.getppid() == parent:
            work()
            status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)
