"""Was an update lost, was a lock held twice? Judged from the journals and the rows alone.

Each write names the write that it is based on. So the chain from a row's last write back to the
first is what has survived: a write that was acknowledged and is not in the chain was lost, and
one with an unknown outcome was written if, and only if, it is in the chain.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

Event = dict[str, Any]
# The mark of a row that nobody has written yet.
START = "start"
# Seconds for which a statement may wait on the server for others when its client is gone.
LINGERING = 10


@dataclass
class Row:
    """A story as it is at the end."""

    pk: int
    mark: str
    counter: int


@dataclass
class Grant:
    """A lock that one worker held, or may have held if it did not live to tell.

    Times are of the common clock; ``clock`` and ``expires`` are of the worker's own, the latter
    as early as it can be.
    """

    story: int
    begun: float
    known: float
    expires: float
    clock: float
    id: int | None = None
    # When its holder gave it up, as far as it did.
    ended: float = inf
    # Whether its transaction may have been undone, and its number with it.
    perhaps_undone: bool = False


@dataclass
class Break:
    story: int
    begun: float
    known: float


@dataclass
class Evidence:
    """What all journals say."""

    tries: dict[str, Event] = field(default_factory=dict)
    acknowledged: list[str] = field(default_factory=list)
    refused_writes: set[str] = field(default_factory=set)
    refusals: Counter[str] = field(default_factory=Counter)
    grants: list[Grant] = field(default_factory=list)
    # Those that may have been given out to workers that could not note it.
    possible: list[Grant] = field(default_factory=list)
    breaks: list[Break] = field(default_factory=list)
    errors: list[Event] = field(default_factory=list)
    deadlocks: int = 0
    cut_off: int = 0
    taken_over: int = 0


def gather(journals: Mapping[int, Sequence[Event]], deaths: Mapping[int, float]) -> Evidence:
    """Read the ``journals`` of all workers; ``deaths`` says when each was known to have ended."""
    evidence = Evidence()
    for worker, events in journals.items():
        _Reader(evidence, deaths[worker]).read(events)
    return evidence


class _Reader:
    """Follows one worker through its journal."""

    def __init__(self, evidence: Evidence, death: float) -> None:
        self.evidence = evidence
        self.death = death
        # When the last event was, and the one before it: whatever was under way in between had
        # an answer after that.
        self.last = self.before_last = 0.0
        self._forget()

    def _forget(self) -> None:
        self.ask: Event | None = None
        self.grant: Grant | None = None
        self.whole = False
        self.mark: str | None = None
        self.breaking: Event | None = None

    def read(self, events: Sequence[Event]) -> None:
        for event in events:
            getattr(self, "on_" + event["event"].replace(" ", "_"))(event)
            self.before_last, self.last = self.last, event["at"]
        self._break_off(self.death)

    def _break_off(self, at: float) -> None:
        """Keep what has no outcome ``at`` the time when the worker was killed or cut off.

        The server may still have executed a statement that was under way.
        """
        if asked := self.ask:
            expires = asked["clock"] + asked["timeout"]
            clock = asked["clock"] + at - asked["at"]
            possible = Grant(asked["story"], asked["at"], at + LINGERING, expires, clock)
            self.evidence.possible.append(possible)
        if self.breaking:
            self._broken(at + LINGERING)
        if self.grant and self.whole:
            # Its transaction ended, one way or the other, at some time after the last answer.
            self.grant.ended = min(self.grant.ended, self.before_last)
            self.grant.perhaps_undone = True
        self._forget()

    def _broken(self, at: float) -> None:
        if self.breaking:
            self.evidence.breaks.append(Break(self.breaking["story"], self.breaking["at"], at))

    def on_born(self, event: Event) -> None:
        pass

    def on_done(self, event: Event) -> None:
        self._forget()

    def on_ask(self, event: Event) -> None:
        self._forget()
        self.ask, self.whole = event, event["whole"]

    def on_grant(self, event: Event) -> None:
        assert self.ask is not None
        self.grant = Grant(
            event["story"],
            self.ask["at"],
            event["at"],
            event["expires"],
            event["clock"],
            event["id"],
        )
        self.ask = None
        self.evidence.grants.append(self.grant)

    def on_taken_over(self, event: Event) -> None:
        self.evidence.taken_over += 1

    def on_try(self, event: Event) -> None:
        self.mark = event["mark"]
        self.evidence.tries[event["mark"]] = event

    def on_ack(self, event: Event) -> None:
        self.evidence.acknowledged.append(event["mark"])
        self.mark = None
        if self.grant and event["expires"] is not None and not self.whole:
            self.grant.expires = max(self.grant.expires, event["expires"])

    def on_release(self, event: Event) -> None:
        if self.grant:
            self.grant.ended = event["at"]

    def on_break(self, event: Event) -> None:
        self._forget()
        self.breaking = event

    def on_broken(self, event: Event) -> None:
        if event["done"]:
            self._broken(event["at"])
        self.breaking = None

    def on_refused(self, event: Event) -> None:
        self.evidence.refusals[event["what"]] += 1
        if self.mark:
            self.evidence.refused_writes.add(self.mark)
        # A refused acquire gave nothing out, and a refused transaction was undone.
        self.ask = None
        self._break_off(event["at"])

    def on_deadlock(self, event: Event) -> None:
        self.evidence.deadlocks += 1
        if self.mark:
            self.evidence.refused_writes.add(self.mark)
        self.ask = None
        self._break_off(event["at"])

    def on_error(self, event: Event) -> None:
        self.evidence.errors.append(event)
        self._break_off(event["at"])

    def on_cut_off(self, event: Event) -> None:
        self.evidence.cut_off += 1
        self._break_off(event["at"])


def chain(row: Row, tries: Mapping[str, Event]) -> list[str]:
    """Return the marks of the writes of ``row`` that have survived, the last one first."""
    marks: list[str] = []
    mark = row.mark
    while mark != START and mark in tries and len(marks) <= len(tries):
        marks.append(mark)
        mark = tries[mark]["previous"]
    return marks


def flaws(rows: Iterable[Row], evidence: Evidence, notes: Iterable[str]) -> Iterator[str]:
    """Yield what is wrong with the rows, other than lost updates."""
    noted = set()
    for row in rows:
        survived = chain(row, evidence.tries)
        if len(survived) != row.counter:
            yield f"story {row.pk} says {row.counter} after {len(survived)} writes"
        for mark in survived:
            if mark in evidence.refused_writes:
                yield f"write {mark} was refused and is there"
            if evidence.tries[mark]["road"] == "save_and_note":
                noted.add(mark)
    for mark in noted.symmetric_difference(notes):
        yield f"write {mark} is there in part"


def overlaps(evidence: Evidence) -> list[tuple[Grant, Grant]]:
    """Return the pairs of grants of one object that were held at once.

    A lock that had expired, by the clock of one who took it over, or that was broken, is not held.
    """
    found = []
    for story in _by_story(evidence):
        grants = sorted(story.grants, key=lambda grant: grant.known)
        known = [grant.known for grant in grants]
        for grant in grants:
            over = story.over(grant)
            for other in grants[bisect_left(known, grant.begun) :]:
                if other.known >= over:
                    break
                if other is not grant and not story.precedes(other, grant):
                    found.append((grant, other))
    return found


def out_of_order(evidence: Evidence) -> list[tuple[Grant, Grant]]:
    """Return the pairs of grants of one object of which the later one has the lower number.

    A transaction that is undone gives its numbers back, on SQLite: nothing that was written under
    them is left.
    """
    found = []
    for story in _by_story(evidence):
        kept = [grant for grant in story.grants if not grant.perhaps_undone]
        grants = sorted(kept, key=lambda grant: grant.id or 0)
        if not grants:
            continue
        # The one that was asked for last among those with a lower number.
        latest = grants[0]
        for before, grant in itertools.pairwise(grants):
            latest = max(latest, before, key=lambda each: each.begun)
            if not story.precedes(before, grant) and story.precedes(grant, before):
                found.append((grant, before))
            elif latest.begun > grant.known:
                found.append((grant, latest))
    return found


def _by_story(evidence: Evidence) -> list[_Story]:
    found: dict[int, _Story] = defaultdict(_Story)
    for grant in evidence.grants:
        found[grant.story].grants.append(grant)
    for grant in evidence.possible:
        found[grant.story].possible.append(grant)
    for each in evidence.breaks:
        found[each.story].breaks.append(each)
    return [story.in_order() for story in found.values() if story.grants]


@dataclass
class _Story:
    """All that was done to the lock of one object."""

    grants: list[Grant] = field(default_factory=list)
    possible: list[Grant] = field(default_factory=list)
    breaks: list[Break] = field(default_factory=list)

    def in_order(self) -> _Story:
        for each in (self.grants, self.possible, self.breaks):
            each.sort(key=lambda event: event.begun)
        self._begun = [grant.begun for grant in self.grants]
        self._longest = max(grant.known - grant.begun for grant in self.grants)
        return self

    def precedes(self, earlier: Grant, later: Grant) -> bool:
        """Tell whether ``earlier`` can have been over when ``later`` was given out."""
        return earlier.begun <= later.known and self.over(earlier) <= later.known

    def over(self, grant: Grant) -> float:
        """Return from when on ``grant`` may have been given up, taken over or broken."""
        return min(grant.ended, self._taken_over(grant), self._broken(grant))

    def _taken_over(self, grant: Grant) -> float:
        start = bisect_left(self._begun, grant.begun - self._longest)
        known = itertools.islice(self.grants, start, None)
        return min(self._first_taker(grant, known), self._first_taker(grant, self.possible))

    @staticmethod
    def _first_taker(grant: Grant, others: Iterable[Grant]) -> float:
        for other in others:
            if other.begun > grant.ended:
                break
            if other is not grant and other.known >= grant.begun and other.clock >= grant.expires:
                return other.begun
        return inf

    def _broken(self, grant: Grant) -> float:
        times = (each.begun for each in self.breaks if each.known >= grant.begun)
        return next(times, inf)
