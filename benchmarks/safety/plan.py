"""What one run is to do, and the numbers that make it what it is."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from mmap import mmap
from pathlib import Path

CHAOS = ("kill", "stop", "drop", "restart")
CONTROLS = ("no-row-lock", "check-then-save")

# Seconds by which a clock may be wrong.
SKEW = 3600
# Seconds after which others may take a lock over; whole seconds, so one is the least.
TIMEOUTS = (1, 1, 2)
# Seconds of a pause just before a row is written, in every mode alike, and how often there is one.
PAUSE = 0.02
PAUSED = 0.1
# Seconds of thinking between reading and writing; the long one outlasts the lock.
THOUGHT = 0.002
LONG_THOUGHT = (1.1, 3.0)
# How often a lock is not released, one that is in the way is broken, and all is one transaction.
FORGOTTEN = 0.03
BROKEN = 0.02
WHOLE = 0.15
# Mean seconds between two events of each kind, and between the first and the last of a stop.
EVERY = {"kill": 2.0, "stop": 2.5, "drop": 2.0, "restart": 25.0}
STOPPED = (0.5, 3.0)
# Seconds of a negative control.
CONTROL_SECONDS = 6
# How often it is run until it loses an update.
CONTROL_RUNS = 6
# The first restart comes early, so that the shortest run has one.
FIRST_RESTART = 4.0


@dataclass(frozen=True)
class Plan:
    """The options of a run."""

    database: str
    folder: Path
    workers: int = 8
    rows: int = 4
    seed: int = 1
    increments: int | None = None
    seconds: float | None = None
    # The share of thoughts that are long.
    long_thoughts: float = 0.02
    chaos: frozenset[str] = frozenset(CHAOS)
    control: str | None = None

    @property
    def journals(self) -> Path:
        return self.folder / f"journals-{self.control or 'protected'}"


class Board:
    """Memory that all processes of a run share: whether to stop, and a count for each worker."""

    SLOTS = 20_000

    def __init__(self) -> None:
        self._memory = mmap(-1, 8 * self.SLOTS)

    @property
    def stopped(self) -> bool:
        return bool(self._memory[0])

    def stop(self) -> None:
        self._memory[0] = 1

    def count(self, worker: int) -> None:
        (before,) = struct.unpack_from("q", self._memory, 8 * (worker + 1))
        struct.pack_into("q", self._memory, 8 * (worker + 1), before + 1)

    def total(self, workers: int) -> int:
        return sum(struct.unpack_from(f"{workers}q", self._memory, 8))


def as_control(protected: Plan, control: str) -> Plan:
    """Return the plan of a short run without a protection, and without anything else to fear."""
    return replace(
        protected, control=control, chaos=frozenset(), increments=None, seconds=CONTROL_SECONDS
    )
