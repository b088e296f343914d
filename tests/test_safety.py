"""The safety harness: does it see what it is there to see, and does it clean up?"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.db import connection

from benchmarks.safety import report
from benchmarks.safety.outcome import Outcome
from benchmarks.safety.plan import Plan
from benchmarks.safety.verdict import Row, chain, flaws, gather, out_of_order, overlaps

ROOT = Path(__file__).parents[1]
DATABASE = {"mysql": "mariadb"}.get(connection.vendor, connection.vendor)
# Seconds that a run may take to get going, and to clean up, however busy the machine is.
PATIENCE = 60


def journal(*events):
    """Make a journal of ``(name, facts)``; each comes a second after the one before."""
    facts = {"story": 1, "whole": False, "expires": None, "timeout": 10}
    return [
        {"at": at, "clock": at, **facts, "event": name, **more}
        for at, (name, more) in enumerate(events)
    ]


def written(mark, previous, *after, road="save"):
    return [("try", {"mark": mark, "previous": previous, "road": road}), *after]


def acknowledged(mark):
    return ("ack", {"mark": mark})


def lock(id, at, until, **more):
    """A lock asked for at ``at``, given out at once and live until ``until``."""
    facts = {"at": at, "clock": at, **more}
    return [("ask", facts), ("grant", {**facts, "id": id, "expires": until})]


def evidence(*journals, deaths=100):
    numbered = dict(enumerate(journals))
    return gather(numbered, dict.fromkeys(numbered, deaths))


def survivors(row, found):
    return set(chain(row, found.tries))


def test_a_write_that_was_acknowledged_and_is_in_the_chain_has_survived():
    found = evidence(
        journal(
            *written("1.1", "start", acknowledged("1.1")),
            *written("1.2", "1.1", acknowledged("1.2")),
        )
    )
    row = Row(1, "1.2", 2)
    assert survivors(row, found) == {"1.1", "1.2"}
    assert list(flaws([row], found, [])) == []


def test_a_write_that_somebody_overwrote_unseen_is_not_in_the_chain():
    found = evidence(
        journal(*written("1.1", "start", acknowledged("1.1"))),
        journal(*written("2.1", "start", acknowledged("2.1"))),
    )
    assert set(found.acknowledged) - survivors(Row(1, "2.1", 1), found) == {"1.1"}


@pytest.mark.parametrize(("mark", "outcome"), [("1.1", {"1.1"}), ("start", set())])
def test_the_chain_tells_what_became_of_a_write_whose_writer_was_killed(mark, outcome):
    found = evidence(journal(*written("1.1", "start")))
    assert survivors(Row(1, mark, len(outcome)), found) == outcome
    assert found.acknowledged == []


def test_a_refused_write_that_is_there_is_a_flaw():
    refused = ("refused", {"what": "StaleToken"})
    found = evidence(journal(*written("1.1", "start", refused)))
    assert list(flaws([Row(1, "1.1", 1)], found, [])) == ["write 1.1 was refused and is there"]


def test_a_counter_that_is_not_the_number_of_writes_is_a_flaw():
    found = evidence(journal(*written("1.1", "start", acknowledged("1.1"))))
    assert list(flaws([Row(1, "1.1", 2)], found, [])) == ["story 1 says 2 after 1 writes"]


@pytest.mark.parametrize(("mark", "notes"), [("1.1", []), ("start", ["1.1"])])
def test_half_of_a_transaction_is_a_flaw(mark, notes):
    found = evidence(journal(*written("1.1", "start", road="save_and_note")))
    row = Row(1, mark, int(mark == "1.1"))
    assert list(flaws([row], found, notes)) == ["write 1.1 is there in part"]


def test_two_live_locks_of_one_object_overlap():
    found = evidence(journal(*lock(1, 10, until=20)), journal(*lock(2, 12, until=22)))
    assert [(a.id, b.id) for a, b in overlaps(found)] == [(1, 2)]


@pytest.mark.parametrize(
    ("first", "others"),
    [
        pytest.param([*lock(1, 10, 20), ("release", {"at": 11})], [], id="released"),
        pytest.param(lock(1, 10, 11), [], id="expired"),
        pytest.param(
            lock(1, 10, 20),
            [[("break", {"at": 11}), ("broken", {"at": 12, "done": True})]],
            id="broken",
        ),
        pytest.param(
            lock(1, 10, 20),
            [[("break", {"at": 11}), ("cut off", {"at": 12})]],
            id="perhaps broken",
        ),
        pytest.param(
            lock(1, 10, 20),
            [[("ask", {"at": 11, "clock": 3000, "timeout": 1}), ("cut off", {"at": 12})]],
            id="perhaps taken over by a fast clock",
        ),
        pytest.param([*lock(1, 10, 20, whole=True), ("cut off", {"at": 15})], [], id="rolled back"),
        pytest.param(lock(1, 10, 20, story=2), [], id="of another object"),
    ],
)
def test_a_lock_that_was_given_up_expired_or_broken_is_not_held_any_more(first, others):
    second = lock(2, 13, until=23)
    found = evidence(journal(*first), journal(*second), *(journal(*each) for each in others))
    assert overlaps(found) == []
    assert out_of_order(found) == []


@pytest.mark.parametrize(
    "others",
    [
        pytest.param([("break", {"at": 11}), ("broken", {"at": 12, "done": False})], id="nothing"),
        pytest.param([("break", {"at": 14}), ("broken", {"at": 15, "done": True})], id="later"),
        pytest.param([("ask", {"at": 11}), ("refused", {"at": 12, "what": "x"})], id="refused"),
        pytest.param([("ask", {"at": 11}), ("cut off", {"at": 12})], id="by a right clock"),
    ],
)
def test_what_did_not_end_a_lock_is_no_excuse(others):
    holders = journal(*lock(1, 10, until=20)), journal(*lock(2, 13, until=23))
    assert len(overlaps(evidence(*holders, journal(*others)))) == 1


def test_a_renewed_lock_is_held_until_its_new_end():
    renewed = [*lock(1, 10, 12), *written("1.1", "start"), ("ack", {"mark": "1.1", "expires": 30})]
    found = evidence(journal(*renewed), journal(*lock(2, 13, until=23)))
    assert len(overlaps(found)) == 1


def test_a_lower_number_that_was_given_out_later_is_out_of_order():
    found = evidence(
        journal(*lock(2, 10, until=20), ("release", {"at": 11})), journal(*lock(1, 12, until=20))
    )
    assert [(a.id, b.id) for a, b in out_of_order(found)] == [(2, 1)]


@pytest.mark.parametrize(
    "end",
    [
        pytest.param([("cut off", {})], id="cut off"),
        pytest.param([("refused", {"what": "x"})], id="refused"),
        pytest.param([("error", {"what": "x"})], id="failed"),
        pytest.param([], id="killed"),
    ],
)
def test_a_number_of_a_transaction_that_was_undone_may_be_given_out_again(end):
    undone = journal(*lock(3, 10, until=20, whole=True), *end)
    later = journal(*lock(2, 101, until=120), *lock(4, 122, until=130))
    assert out_of_order(evidence(undone, later)) == []
    assert out_of_order(evidence(undone)) == []


def outcome(**found):
    counts = "acknowledged found_written found_unwritten final lost grants taken_over breaks"
    zeros = dict.fromkeys(f"{counts} overlaps out_of_order deadlocks cut_off".split(), 0)
    empty = {"refused": {}, "happened": {}, "errors": {}, "flaws": []}
    plan = Plan("sqlite", Path(), control=found.pop("control", None))
    return Outcome(plan, 1, **{**zeros, **empty, "acknowledged": 9, **found})


@pytest.mark.parametrize(
    ("found", "failures"),
    [
        ({}, []),
        ({"acknowledged": 0}, ["nothing was written"]),
        ({"lost": 1}, ["1 updates lost"]),
        ({"overlaps": 2}, ["2 grants overlap"]),
        ({"out_of_order": 3}, ["3 grants out of order"]),
        ({"errors": {"KeyError": 4}}, ["4 unexpected errors"]),
        ({"flaws": ["a worker hangs"]}, ["a worker hangs"]),
        ({"control": "no-row-lock", "lost": 1}, []),
        (
            {"control": "no-row-lock"},
            ["no update was lost, so the harness would not notice"],
        ),
    ],
)
def test_what_fails_a_run(found, failures):
    assert outcome(**found).failures == failures


def test_the_tables_of_the_docs_show_what_is_kept():
    assert report.TABLES.read_text(encoding="utf-8") == report.tables()


@pytest.fixture
def command(tmp_path, monkeypatch):
    """The command line of a run on the server of the tests, with a folder of its own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(ROOT)
    options = ["--database", DATABASE, "--server", "shared", "--workers", "4", "--rows", "2"]
    return [sys.executable, "-m", "benchmarks.safety", *options]


@pytest.mark.parametrize(
    ("options", "verdict"),
    [
        (["--seconds", "3"], "Nothing was lost.\n"),
        (["--seconds", "5", "--control", "check-then-save"], f"{report.LOST}\n"),
    ],
    ids=["protected", "control"],
)
def test_a_short_run_loses_updates_only_without_the_guard(command, tmp_path, options, verdict):
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(verdict)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell nobody of a parent's death")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=str)
def test_a_run_that_is_ended_leaves_nothing_behind(command, tmp_path, number):
    process = subprocess.Popen([*command, "--seconds", "60"], start_new_session=True)
    wait_until(lambda: list(tmp_path.glob("*/*/journals-protected/3")))
    process.send_signal(number)
    process.wait(PATIENCE)
    wait_until(lambda: not is_group(process.pid) and not list(tmp_path.iterdir()))


def is_group(number):
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
