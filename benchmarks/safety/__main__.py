"""``python -m benchmarks.safety``: is an update ever lost, whatever happens to its writers?"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from signal import SIGTERM

from benchmarks import databases
from benchmarks.safety import plan, report, servers
from benchmarks.safety.outcome import Outcome
from benchmarks.safety.processes import die_with_parent, end_on_signals

FOLDER = "LOCK_TOKENS_SAFETY_FOLDER"
# How many of the things that went wrong are shown in full.
SHOWN = 5
SHORT = ["--seconds", "12", "--controls"]
LONG = ["--increments", "100000", "--rows", "32", "--long-thoughts", "0.002", "--controls"]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.safety", description=__doc__)
    add = made.add_argument
    add("--database", choices=databases.DATABASES, action="append", help="default: all")
    add("--short", action="store_true", help="all databases at once, with both controls")
    add("--long", action="store_true", help="100,000 increments a database, kept for the docs")
    add("--workers", type=int, default=8, help="processes at once (8)")
    add("--rows", type=int, default=4, help="rows they fight for (4)")
    add("--increments", type=int, help="stop after so many acknowledged increments")
    add("--seconds", type=float, help="stop after so many seconds (12, if nothing else is said)")
    add("--seed", type=int, default=1, help="of the random choices; scheduling is not one (1)")
    add("--chaos", default=",".join(plan.CHAOS), help="what happens, of: %(default)s")
    add("--long-thoughts", type=float, default=0.02, help="share of thoughts over a second")
    add("--control", choices=plan.CONTROLS, help="take this protection away; updates must be lost")
    add("--controls", action="store_true", help="after the run, one with each control")
    add("--server", choices=("private", "shared"), help="one started for this run, or the tests'")
    add("--keep", action="store_true", help="keep the results for the docs")
    add("--tables", action="store_true", help="only write the tables of the docs anew")
    add("--child", action="store_true", help=argparse.SUPPRESS)
    return made


def arguments() -> argparse.Namespace:
    given = sys.argv[1:]
    known = parser().parse_args(given)
    preset = [*(SHORT if known.short else []), *(LONG if known.long else [])]
    options = parser().parse_args([*preset, *given])
    if unknown := set(chaos(options)).difference(plan.CHAOS):
        parser().error(f"--chaos does not know {', '.join(sorted(unknown))}")
    if not options.increments and not options.seconds:
        options.seconds = 12
    options.keep = options.keep or options.long
    return options


def chaos(options: argparse.Namespace) -> frozenset[str]:
    return frozenset(options.chaos.split(",")) - {""}


# Once for all databases.


def run_all(options: argparse.Namespace) -> int:
    """Run each database in a process of its own; return 1 if one of them failed."""
    names = options.database or databases.DATABASES
    with temporary_folder() as folder:
        running = []
        status = 0
        try:
            for name in names:
                running.append(start(name, folder))
                if not options.short:
                    status |= wait(running[-1:])
            status |= wait(running)
        finally:
            for process in running:
                process.terminate()
                process.wait()
    if options.keep:
        report.write_tables()
    return int(bool(status))


@contextmanager
def temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="lock_tokens_safety_"))
    # The users of the servers have to pass.
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def start(name: str, folder: Path, module: str = "benchmarks.safety") -> subprocess.Popen[bytes]:
    """Run ``module`` with the arguments of this process on the database ``name``."""
    own = folder / name
    own.mkdir()
    own.chmod(0o711)
    environment = {**os.environ, "LOCK_TOKENS_DB": name, "TMPDIR": str(own), FOLDER: str(own)}
    environment.pop("LOCK_TOKENS_BENCH_DB_NAME", None)
    command = [sys.executable, "-m", module, *sys.argv[1:]]
    return subprocess.Popen(  # noqa: S603
        [*command, "--database", name, "--child"],
        env=environment,
        preexec_fn=partial(die_with_parent, SIGTERM),
    )


def wait(running: Sequence[subprocess.Popen[bytes]]) -> int:
    statuses = [process.wait() for process in running]
    return int(any(statuses))


# Once for each database.


def run_one(options: argparse.Namespace) -> int:
    name, folder = options.database[-1], Path(os.environ[FOLDER])
    private = options.server != "shared" and servers.can_be_private(name)
    if options.server == "private" and not private and name != "sqlite":
        parser().error(f"the programs of a {name} server were not found")
    with cleared(folder), servers.private(name, folder) if private else nullcontext() as server:
        databases.set_up()
        with databases.database():
            return fight(options, plans(options, name, folder, private=private), server)


@contextmanager
def cleared(folder: Path) -> Iterator[None]:
    """Remove the ``folder``, and the one it is in if the process that made it was killed."""
    parent = os.getppid()
    try:
        yield
    finally:
        shutil.rmtree(folder if os.getppid() == parent else folder.parent, ignore_errors=True)


def plans(
    options: argparse.Namespace, name: str, folder: Path, *, private: bool
) -> list[plan.Plan]:
    """Return what is to be run one after the other."""
    wanted = chaos(options)
    if name == "sqlite":
        wanted -= {"drop", "restart"}
    elif not private:
        wanted -= {"restart"}
    first = plan.Plan(
        database=name,
        folder=folder,
        workers=options.workers,
        rows=options.rows,
        seed=options.seed,
        increments=options.increments,
        seconds=options.seconds,
        long_thoughts=options.long_thoughts,
        chaos=wanted,
        control=options.control,
    )
    controls = plan.CONTROLS if options.controls and not options.control else ()
    return [first, *(plan.as_control(first, control) for control in controls)]


def fight(
    options: argparse.Namespace, wanted: Sequence[plan.Plan], server: servers.Server | None
) -> int:
    begun = time.monotonic()
    outcomes = [play(each, server) for each in wanted]
    machine = databases.describe()
    print(report.of_run(machine, outcomes, time.monotonic() - begun), flush=True)
    failures = [failure for outcome in outcomes for failure in outcome.failures]
    for outcome in outcomes:
        if outcome.failures:
            print("\n".join(outcome.details[:SHOWN]), file=sys.stderr, flush=True)
    if options.keep and not failures:
        report.keep(machine, outcomes)
    return int(bool(failures))


def play(wanted: plan.Plan, server: servers.Server | None) -> Outcome:
    """Run the plan; a control again and again, as on a busy machine a short one may be lucky."""
    from benchmarks.safety.arena import Arena

    outcome = Arena(wanted, server).run()
    for luck in range(1, plan.CONTROL_RUNS):
        if outcome.lost or not wanted.control:
            break
        outcome = Arena(replace(wanted, seed=wanted.seed + luck), server).run()
    return outcome


def main() -> int:
    options = arguments()
    end_on_signals()
    if options.tables:
        report.write_tables()
        return 0
    return run_one(options) if options.child else run_all(options)


if __name__ == "__main__":
    sys.exit(main())
