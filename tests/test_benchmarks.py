"""What docs/performance.rst and docs/scale.rst show is what was measured last."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from docutils.core import publish_doctree
from docutils.nodes import table

from benchmarks import databases, plots, results

ROOT = Path(__file__).resolve().parents[1]
PAGE = "".join((plots.DOCS / name).read_text() for name in ("performance.rst", "scale.rst"))


@pytest.mark.parametrize("name", plots.TABLES)
def test_a_table_says_what_was_measured(name):
    written = plots.path_of(name).read_text()
    assert written == plots.included(name), "run python -m benchmarks.plots --tables"


@pytest.mark.parametrize("name", plots.TABLES)
def test_the_page_includes_every_table(name):
    assert f".. include:: {name}.inc\n" in PAGE


@pytest.mark.parametrize("benchmark", plots.DRAWINGS)
@pytest.mark.parametrize("database", databases.DATABASES)
def test_the_page_shows_a_plot_of_whatever_was_measured(benchmark, database):
    plot = f"plots/{benchmark}_{database}.svg"
    measured = results.kept(benchmark, database) is not None
    assert (f".. image:: {plot}\n" in PAGE) == (plots.DOCS / plot).exists() == measured


def test_a_new_measurement_changes_the_table(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    made = {
        **dict.fromkeys(("database", "django", "python", "cores", "processor"), "x"),
        "sizes": [1000, 2_000_000],
        "microseconds": {"acquire": {"1000": 100.0, "2000000": 113.0}},
    }
    results.keep("scale", "sqlite", made)
    text = plots.included("scale_sizes")
    [found] = publish_doctree(text).findall(table)
    assert [row.split() for row in found.astext().split("\n\n") if row.strip()] == [
        ["verb"],
        ["1", "thousand", "locks,", "µs"],
        ["2", "million", "locks,", "µs"],
        ["largest", "ratio"],
        ["acquire"],
        ["100.0"],
        ["113.0"],
        ["1.13"],
    ]


@pytest.mark.parametrize("database", databases.DATABASES)
def test_every_statement_on_many_locks_goes_by_an_index(database):
    result = results.kept("scale", database)
    if result is None:
        pytest.skip("nothing was measured")
    for each in result["plans"]:
        # MariaDB says ALL of an insert too.
        scanned = re.search(r"Seq Scan on lock_tokens|SCAN lock_tokens|^l ALL", each["plan"], re.M)
        assert not scanned, (each["sql"], each["plan"])


def test_the_plots_say_what_they_need_where_it_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(plots, "write_tables", lambda: None)
    assert plots.main([]) == 1
    assert capsys.readouterr().err == "The plots need matplotlib: pip install matplotlib\n"


@pytest.mark.parametrize("name", ["speed", "scale", "cleanup", "throughput", "plots"])
def test_a_benchmark_says_how_it_is_used(name):
    command = [sys.executable, "-m", f"benchmarks.{name}", "--help"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--" in said.stdout
    assert said.stderr == ""


def test_what_is_kept_names_no_path():
    for path in results.RESULTS.glob("*.json"):
        text = path.read_text()
        assert json.loads(text)
        assert str(Path.home()) not in text
