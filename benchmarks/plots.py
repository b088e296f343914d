"""Tables and plots of docs/scale.rst from what is kept: ``python -m benchmarks.plots --help``"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import databases, results, speed

DOCS = Path(__file__).resolve().parents[1] / "docs"
PLOTS = DOCS / "plots"
NAMES = {"postgresql": "PostgreSQL", "sqlite": "SQLite", "mariadb": "MariaDB"}
# Nothing that changes from run to run: no date, and no random ids.
STYLE = {
    "svg.hashsalt": "django-lock-tokens",
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
# What MariaDB says of an insert.
NO_PLAN = re.compile("^lock_tokens_locktoken ALL$")
Draw = Callable[[Any, dict[str, Any]], None]


def in_words(number: int) -> str:
    """Return 1 thousand for 1000, and so on."""
    for size, name in ((1_000_000, "million"), (1_000, "thousand")):
        if number >= size and number % size == 0:
            return f"{number // size} {name}"
    return str(number)


def scale_tables(result: dict[str, Any]) -> Iterator[str]:
    sizes = [str(size) for size in result["sizes"]]
    head = ["verb", *(f"{in_words(int(size))} locks, µs" for size in sizes), "largest ratio"]
    lines = []
    for verb, medians in result["microseconds"].items():
        times = [medians[size] for size in sizes]
        lines.append([verb, *times, f"{max(times) / times[0]:.2f}"])
    yield results.table(head, lines)


def index_tables(result: dict[str, Any]) -> Iterator[str]:
    """Yield a table of what everything costs without each of the indexes, if it was measured."""
    without = result.get("without")
    if without:
        verbs = next(iter(without.values()))
        head = ["what is done", *(f"no index: {index}" for index in without)]
        yield results.table(head, [[v, *(shown(of[v]) for of in without.values())] for v in verbs])


def shown(ratio: Any) -> str:
    return "fails" if isinstance(ratio, str) else f"{ratio:g}"


def plans(result: dict[str, Any]) -> Iterator[str]:
    """Yield each plan once, with the statement and with those who execute it."""
    verbs: dict[tuple[str, str], list[str]] = {}
    for each in result["plans"]:
        if each["plan"] and not NO_PLAN.search(each["plan"]):
            verbs.setdefault((each["sql"], each["plan"]), []).append(each["verb"])
    for (sql, plan), names in verbs.items():
        indented = plan.replace("\n", "\n   ")
        yield f"{', '.join(names)}: ``{shortened(sql)}``\n\n.. code-block:: text\n\n   {indented}"


def shortened(sql: str) -> str:
    return sql if len(sql) < 90 else f"{sql[:50].rstrip()} … {sql[-35:].lstrip()}"


def cleanup_tables(result: dict[str, Any]) -> Iterator[str]:
    head = ["live beside", "one DELETE, rows/s", "the command, rows/s"]
    head += ["while locks are taken", "memory, MB"]
    lines = [
        [
            in_words(found["live"]),
            *(found[name]["per_second"] for name in ("bare", "alone", "disturbed")),
            max(found[name]["megabytes"] for name in ("alone", "disturbed")),
        ]
        for found in result["among"]
    ]
    yield results.table(head, lines)
    keys = ("calls", "median_ms", "p99_ms", "max_ms", "over_50_ms")
    head = ["live beside", "command", "calls", "median, ms", "99 %, ms", "longest, ms"]
    lines = [
        [in_words(found["live"]), said, *(found[name][key] for key in keys)]
        for found in result["among"]
        for name, said in (("quiet", "not running"), ("meanwhile", "running"))
    ]
    yield results.table([*head, "over 50 ms"], lines)


def throughput_tables(result: dict[str, Any]) -> Iterator[str]:
    with_pgbench = all(found.get("pgbench") for found in result["runs"])
    head = ["clients", "acquire and release, 1/s", "99 %, ms", "guarded saves, 1/s"]
    lines = []
    for found in result["runs"]:
        of = found["locks"]
        line = [found["clients"], of["per_second"], of["p99_ms"], found["saves"]["per_second"]]
        lines.append([*line, found["pgbench"]["per_second"]] if with_pgbench else line)
    yield results.table([*head, "pgbench, 1/s"] if with_pgbench else head, lines)
    head = ["clients", "taken, 1/s", "refused, 1/s", "errors", "median, ms", "99 %, ms"]
    lines = []
    for found in result["runs"]:
        of = found["contended"]
        refused = round(of["refused"] / result["seconds"], 1)
        times = [of[name] for name in ("median_ms", "p99_ms", "max_ms")]
        lines.append([found["clients"], of["per_second"], refused, len(of["errors"]), *times])
    yield results.table([*head, "longest, ms"], lines)


# What is included where, by the name of the file.
TABLES: dict[str, tuple[str, Callable[[dict[str, Any]], Iterator[str]]]] = {
    "speed": ("speed", speed.tables),
    "scale_sizes": ("scale", scale_tables),
    "scale_indexes": ("scale", index_tables),
    "scale_plans": ("scale", plans),
    "scale_cleanup": ("cleanup", cleanup_tables),
    "scale_throughput": ("throughput", throughput_tables),
}


def included(name: str) -> str:
    """Return what the file ``name`` is to say."""
    benchmark, make = TABLES[name]
    parts = [".. Made by python -m benchmarks.plots --tables: do not edit."]
    for database in databases.DATABASES:
        result = results.kept(benchmark, database)
        found = list(make(result)) if result else []
        if result and found:
            parts += [f"{heading(result)}:", *found]
    return "\n\n".join(parts) + "\n"


def heading(result: dict[str, Any]) -> str:
    return (
        f"{result['database']}, Django {result['django']}, Python {result['python']}, "
        f"{result['cores']} cores ({result['processor']})"
    )


def path_of(name: str) -> Path:
    return DOCS / f"{name}.inc"


def write_tables() -> None:
    for name in TABLES:
        path_of(name).write_text(included(name), encoding="utf-8")


def draw_scale(axes: Any, result: dict[str, Any]) -> None:
    for verb, medians in result["microseconds"].items():
        axes.plot(result["sizes"], [medians[str(s)] for s in result["sizes"]], "o-", label=verb)
    axes.set(xscale="log", xlabel="locks", ylabel="µs (median)")


def draw_throughput(axes: Any, result: dict[str, Any]) -> None:
    clients = [found["clients"] for found in result["runs"]]
    lines = {"locks": "acquire and release", "saves": "guarded save", "pgbench": "pgbench"}
    for name, label in lines.items():
        if all(found.get(name) for found in result["runs"]):
            axes.plot(clients, [f[name]["per_second"] for f in result["runs"]], "o-", label=label)
    axes.set_xscale("log", base=2)
    axes.set(xlabel="clients", ylabel="a second", xticks=clients, xticklabels=clients)


DRAWINGS: dict[str, Draw] = {"scale": draw_scale, "throughput": draw_throughput}


def draw_all() -> None:
    import matplotlib

    matplotlib.use("svg")
    PLOTS.mkdir(exist_ok=True)
    with matplotlib.rc_context(STYLE):
        for benchmark, draw in DRAWINGS.items():
            for database in databases.DATABASES:
                if result := results.kept(benchmark, database):
                    save(PLOTS / f"{benchmark}_{database}.svg", draw, result)


def save(path: Path, draw: Draw, result: dict[str, Any]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    draw(axes, result)
    axes.set_ylim(bottom=0)
    axes.set_title(result["database"])
    figure.legend(loc="outside right upper")
    figure.savefig(path, metadata={"Date": None})
    # Lines that end in blanks are nobody's wish.
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("".join(f"{line.rstrip()}\n" for line in lines), encoding="utf-8")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", action="store_true", help="only the tables, which need nothing")
    options = parser.parse_args(arguments)
    write_tables()
    if options.tables:
        return 0
    try:
        draw_all()
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        print("The plots need matplotlib: pip install matplotlib", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
