"""Which line of the project asked for a write?"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from types import CoroutineType, FrameType
from typing import Any

# The packages through which a write comes from the project's code to the guard.
BETWEEN = {
    "asgiref",
    "asyncio",
    "concurrent",
    "contextlib",
    "django",
    "functools",
    "lock_tokens",
    "rest_framework",
    "threading",
}
# Who called this was serving a request, not asking for a write.
SERVING = "django.core.handlers"
# How often, a millisecond apart, a coroutine is looked for that has just handed over.
ATTEMPTS = 20


def caller() -> str | None:
    """Return the file and line of the project that asked for the write that is judged.

    ``None`` where no code of the project did: in a generic view, or in a thread of its own.
    """
    for frame in _frames():
        module = frame.f_globals.get("__name__") or ""
        if module.startswith(SERVING):
            return None
        if module.partition(".")[0] not in BETWEEN:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
    return None


def _frames() -> Iterator[FrameType]:
    """Yield the frames on the stack, those of a coroutine that waits for this thread included."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        if frame.f_code.co_name == "thread_handler":
            yield from _frames_waiting_for(frame)
        frame = frame.f_back


def _frames_waiting_for(frame: FrameType) -> list[FrameType]:
    """Return those of the coroutine in whose ``sync_to_async`` call ``frame`` is, innermost first.

    Best effort: none where asgiref does not have it as expected.
    """
    loop, call = frame.f_locals.get("loop"), frame.f_locals.get("self")
    if not isinstance(loop, asyncio.AbstractEventLoop):
        return []
    for _ in range(ATTEMPTS):
        for task in asyncio.all_tasks(loop):
            found = _frames_of(task)
            if found and found[0].f_locals.get("self") is call:
                return found
        # It may not have begun to wait yet.
        time.sleep(0.001)
    return []


def _frames_of(task: asyncio.Task[Any]) -> list[FrameType]:
    found: list[FrameType] = []
    coroutine: object = task.get_coro()
    while isinstance(coroutine, CoroutineType) and coroutine.cr_frame is not None:
        found.insert(0, coroutine.cr_frame)
        coroutine = coroutine.cr_await
    return found
