"""What a run comes to, and what of it must not be."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.safety import plan


@dataclass
class Outcome:
    """What is found after a run; the counts are of the whole run."""

    plan: plan.Plan
    seconds: float
    acknowledged: int
    # Written, though the worker was killed or cut off before it was told.
    found_written: int
    # The same, but not written.
    found_unwritten: int
    final: int
    lost: int
    refused: dict[str, int]
    grants: int
    taken_over: int
    breaks: int
    overlaps: int
    out_of_order: int
    deadlocks: int
    happened: dict[str, int]
    cut_off: int
    errors: dict[str, int]
    flaws: list[str]
    details: list[str] = field(default_factory=list, repr=False)

    @property
    def failures(self) -> list[str]:
        """What must not be, or, in a control, what must be and is not."""
        if self.plan.control:
            return [] if self.lost else ["no update was lost, so the harness would not notice"]
        counts = {
            "updates lost": self.lost,
            "grants overlap": self.overlaps,
            "grants out of order": self.out_of_order if self._is_numbered else 0,
            "unexpected errors": sum(self.errors.values()),
        }
        found = [f"{count} {what}" for what, count in counts.items() if count]
        if not self.acknowledged:
            found.append("nothing was written")
        return [*found, *self.flaws]

    @property
    def _is_numbered(self) -> bool:
        """Tell whether locks are numbered in the order in which they are given out.

        The servers draw the number of a new row before they wait for whoever is in its way.
        """
        return self.plan.database == "sqlite"

    def serialize(self) -> dict[str, Any]:
        names = ("seed", "workers", "rows", "long_thoughts", "control")
        options = {name: getattr(self.plan, name) for name in names}
        found = asdict(self)
        del found["plan"], found["details"]
        return {**options, "chaos": sorted(self.plan.chaos), **found}
