"""What a worker did, in its own words: one line before and one after each step.

A line is with the system before the next step begins, so it outlives the worker. A step that has
no second line has an unknown outcome; what became of it is found out from the rows.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any


class Journal:
    """A file that one worker appends to."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, event: str, **facts: Any) -> None:
        """Note ``event``, with the time of a clock that all processes share."""
        line = json.dumps({"event": event, "at": time.monotonic(), **facts})
        os.write(self._file, f"{line}\n".encode())


def read(path: Path) -> list[dict[str, Any]]:
    """Return the events of one worker, without a last one that it was killed in."""
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]
