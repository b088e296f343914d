"""What the runs found, for the terminal and for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import databases, results
from benchmarks.safety import plan

TABLES = Path(__file__).parents[2] / "docs" / "safety_results.inc"
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mariadb": "MariaDB"}

REFUSALS = (
    "AlreadyLockedError",
    "ObjectLocked",
    "LockRequired",
    "StaleToken",
    "UnlockForbiddenError",
)
HAPPENED = {
    "kill": "workers killed",
    "stop": "workers stopped for a while",
    "drop": "connections cut",
    "restart": "servers restarted",
    "crash": "servers crashed",
}
LOST = "Updates were lost, as they must be without protection."

Row = tuple[str, str]


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def rows_of(found: Mapping[str, Any]) -> Iterable[Row]:
    """Yield the lines of a table about one outcome, in the form in which it is kept."""
    yield "seconds", f"{found['seconds']:,}"
    yield "acknowledged increments", f"{found['acknowledged']:,}"
    yield "unknown outcome, found written", f"{found['found_written']:,}"
    yield "unknown outcome, found not written", f"{found['found_unwritten']:,}"
    yield "final value", f"{found['final']:,}"
    yield "acknowledged and lost", f"{found['lost']:,}"
    yield "locks taken", f"{found['grants']:,}"
    yield "of these taken over", f"{found['taken_over']:,}"
    yield "locks broken", f"{found['breaks']:,}"
    yield "held at once", f"{found['overlaps']:,}"
    yield "numbers out of order", f"{found['out_of_order']:,}"
    for name in REFUSALS:
        yield name, f"{found['refused'].get(name, 0):,}"
    for name, words in HAPPENED.items():
        yield words, f"{found['happened'].get(name, 0):,}"
    yield "steps cut off", f"{found['cut_off']:,}"
    yield "deadlocks in a transaction", f"{found['deadlocks']:,}"
    yield "unexpected errors", _listed(found["errors"])


def of_run(machine: Mapping[str, str], outcomes: Sequence[Any], seconds: float) -> str:
    """Return what is printed for one database."""
    kept = [list(rows_of(outcome.serialize())) for outcome in outcomes]
    head = ["what was counted", *(outcome.plan.control or "protected" for outcome in outcomes)]
    lines = [[each[0][0], *(row[1] for row in each)] for each in zip(*kept, strict=True)]
    failures = [
        f"FAILED ({outcome.plan.control or 'protected'}): {failure}"
        for outcome in outcomes
        for failure in outcome.failures
    ]
    title = f"{machine['database']}, seed {outcomes[0].plan.seed}, {seconds:.0f} s"
    verdict = failures or [LOST if outcomes[0].plan.control else "Nothing was lost."]
    return "\n".join(["", title, results.table(head, lines), *verdict])


def keep(machine: Mapping[str, str], outcomes: Sequence[Any]) -> None:
    found = {outcome.plan.control or "protected": outcome.serialize() for outcome in outcomes}
    database = outcomes[0].plan.database
    results.keep("safety", database, {"machine": dict(machine), "runs": found})


def tables() -> str:
    """Return the tables of the documentation, from the kept results."""
    kept = {name: results.kept("safety", name) for name in databases.DATABASES}
    found = {name: result for name, result in kept.items() if result}
    parts = [".. Made by python -m benchmarks.safety --tables", ""]
    parts += [*_conditions(found), ""] if found else ["No results are kept yet.", ""]
    for run in ("protected", *plan.CONTROLS) if found else ():
        of_run = {name: result["runs"][run] for name, result in found.items()}
        parts += [f"**{TITLES[run]}**", "", _table(of_run), ""]
    return "\n".join([*parts, *_crowds()])


def _crowds() -> Iterable[str]:
    kept = {name: results.kept("crowd", name) for name in databases.DATABASES}
    rows = [(NAMES[name], *row) for name, each in kept.items() if each for row in each["rows"]]
    sizes = {(each["processes"], each["rounds"]) for each in kept.values() if each}
    for processes, rounds in sorted(sizes):
        yield f"**{processes} processes want one lock at once, {rounds} rounds a line**"
        yield ""
    if rows:
        yield results.table(["database", *CROWD], rows)
        yield ""


CROWD = ("lock", "in", "winners a round", "refused", "other errors", "seconds a round")
TITLES = {
    "protected": "As the package is",
    "no-row-lock": "Negative control: the guard looks at the lock's row without keeping it",
    "check-then-save": "Negative control: check_lock(), then a save with the guard off",
}


def _table(found: Mapping[str, Mapping[str, Any]]) -> str:
    columns = [list(rows_of(each)) for each in found.values()]
    lines = [[each[0][0], *(row[1] for row in each)] for each in zip(*columns, strict=True)]
    return results.table(["what was counted", *(NAMES[name] for name in found)], lines)


def _conditions(found: Mapping[str, Any]) -> Iterable[str]:
    for result in found.values():
        machine, run = result["machine"], result["runs"]["protected"]
        yield (
            f"- {machine['database']}, Django {machine['django']}, Python {machine['python']}, "
            f"{machine['cores']} cores ({machine['processor']}); seed {run['seed']}, "
            f"{run['workers']} workers, {run['rows']} rows, "
            f"{run['long_thoughts']:.1%} of the thoughts over a second"
        )


def write_tables() -> None:
    TABLES.write_text(tables(), encoding="utf-8")
