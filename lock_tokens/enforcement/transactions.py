"""The transaction in which a write is judged and done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from django.db import connections, transaction


def transaction_for(using: str) -> AbstractContextManager[Any]:
    """Return a transaction if there is none yet.

    For writes that are judged before Django does anything: inside an outer transaction their
    refusal must not pass through an ``atomic``, which would leave the outer one unusable.
    """
    connection = connections[using]
    if connection.in_atomic_block or not connection.get_autocommit():
        return nullcontext()
    return whole(using)


@contextmanager
def whole(using: str) -> Iterator[None]:
    """Do all or nothing inside, and leave the outer transaction, if there is one, usable."""
    with beginning_with_the_write_lock(using), transaction.atomic(using=using):
        yield


@contextmanager
def beginning_with_the_write_lock(using: str) -> Iterator[None]:
    """Let transactions on SQLite that begin inside wait for the write lock right away.

    One that reads first cannot get it any more when somebody else has written meanwhile.
    """
    connection: Any = connections[using]
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        yield
        return
    # Its mode is set when it connects.
    connection.ensure_connection()
    mode, connection.transaction_mode = connection.transaction_mode, "IMMEDIATE"
    try:
        yield
    finally:
        connection.transaction_mode = mode
