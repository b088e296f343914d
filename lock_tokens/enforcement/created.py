"""Which objects has the running transaction created? Nobody else can have seen them yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import connections, transaction

from lock_tokens.targets import Target


class _Created:
    """Objects that were created in ``block``, an outermost atomic block.

    Kept among what is to be run on commit: what a savepoint takes back, Django forgets there.
    """

    def __init__(self, block: Any) -> None:
        self.block = block
        self.targets: set[Target] = set()

    def __call__(self) -> None:
        """Do nothing: it is not for the commit that this is kept."""


def note_created(targets: Iterable[Target], using: str) -> None:
    """Remember that the running transaction has created ``targets``."""
    connection: Any = connections[using]
    block = _outermost_block(connection)
    if block is None:
        return
    sids, kept = set(connection.savepoint_ids), connection.run_on_commit
    last = kept[-1] if kept else (None, None, False)
    if not (isinstance(last[1], _Created) and last[0] == sids and last[1].block is block):
        transaction.on_commit(_Created(block), using=using)
    connection.run_on_commit[-1][1].targets.update(targets)


def is_created_here(target: Target) -> bool:
    """Tell whether the running transaction has created ``target``."""
    connection: Any = connections[target.using]
    return any(
        target in each.targets
        for _, each, _ in connection.run_on_commit
        if isinstance(each, _Created) and each.block in connection.atomic_blocks
    )


def _outermost_block(connection: Any) -> Any:
    """Return the outermost atomic block that is not that of a ``TestCase``."""
    return next((each for each in connection.atomic_blocks if not each._from_testcase), None)
