"""Results are kept as JSON beside the code, and docs/performance.rst shows what is kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def path_of(benchmark: str, database: str) -> Path:
    return RESULTS / f"{benchmark}-{database}.json"


def keep(benchmark: str, database: str, result: dict[str, Any]) -> None:
    """Store the ``result`` of one benchmark on one database, in place of the one before."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(result, indent=1, ensure_ascii=False)
    path_of(benchmark, database).write_text(f"{text}\n", encoding="utf-8")


def kept(benchmark: str, database: str) -> dict[str, Any] | None:
    """Return what was kept last, or ``None``."""
    path = path_of(benchmark, database)
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table that is readable in a terminal and valid reStructuredText."""
    cells = [[str(cell) or "\\" for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    rule = "  ".join("=" * width for width in widths)
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])
