"""Writes the tables of docs/what_is_enforced.rst, from the list that the tests play.

``python -m tests.enforcement.table`` does it; a test compares.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import django

if TYPE_CHECKING:
    from tests.enforcement.roads import Road

PAGE = Path(__file__).resolve().parents[2] / "docs" / "what_is_enforced.rst"
# Between two such lines the page is generated.
GENERATED = re.compile(r"(\.\. BEGIN (\w+): .+\n\n)(?:.*\n)*?(\.\. END \2\n)")


def generated(page: str) -> str:
    """Return ``page`` with its tables as they have to be."""
    from tests.enforcement import roads

    parts = {
        "refused": "".join(_group(title, group) for title, group in roads.REFUSED.items()),
        "free": _table(["write"], ([_code(road.code)] for road in _shown(roads.FREE))),
        "uncovered": _table(
            ["write", "why"], ([_code(code), why] for code, why in roads.UNCOVERED)
        ),
    }
    return GENERATED.sub(lambda found: found[1] + parts[found[2]] + found[3], page)


def _group(title: str, group: Iterable["Road"]) -> str:
    rows = ([_code(road.code), _needed(road.needs)] for road in _shown(group))
    return f"{title}\n{'~' * len(title)}\n\n{_table(['write', 'needs the lock of'], rows)}"


def _shown(group: Iterable["Road"]) -> Iterator["Road"]:
    return (road for road in group if road.shown)


def _code(code: str) -> str:
    """Return ``code`` as a cell, with what the tests run in a loop as what a reader would write."""
    lines = [re.sub(r"\bwait\((.*)\)$", r"await \1", line) for line in code.split("\n")]
    return f"``{lines[0]}``" if len(lines) == 1 else "\n".join(f"| ``{line}``" for line in lines)


def _needed(names: Iterable[str]) -> str:
    return " and ".join(f"the {name.replace('_', ' ')}" for name in names)


def _table(heading: list[str], rows: Iterable[list[str]]) -> str:
    text = "".join(_row(row) for row in [heading, *rows])
    return f".. list-table::\n   :header-rows: 1\n\n{text}\n"


def _row(cells: list[str]) -> str:
    first, *others = [cell.replace("\n", "\n       ") for cell in cells]
    return f"   * - {first}\n" + "".join(f"     - {cell}\n" for cell in others)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    text = PAGE.read_text()
    if (new := generated(text)) != text:
        PAGE.write_text(new)
