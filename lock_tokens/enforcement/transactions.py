"""The transaction in which a write is judged and done."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
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
    return _whole(connection, using)


def whole(using: str) -> AbstractContextManager[Any]:
    """Do all or nothing inside, and leave the outer transaction, if there is one, usable."""
    return _whole(connections[using], using)


def _whole(connection: Any, using: str) -> AbstractContextManager[Any]:
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        return transaction.atomic(using=using)
    return _Immediate(connection, transaction.atomic(using=using))


def beginning_with_the_write_lock(using: str) -> AbstractContextManager[Any]:
    """Let transactions on SQLite that begin inside wait for the write lock right away.

    One that reads first cannot get it any more when somebody else has written meanwhile.
    """
    connection = connections[using]
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        return nullcontext()
    return _Immediate(connection, nullcontext())


class _Immediate:
    def __init__(self, connection: Any, inner: AbstractContextManager[Any]) -> None:
        self._connection = connection
        self._inner = inner

    def __enter__(self) -> None:
        # Its mode is set when it connects.
        self._connection.ensure_connection()
        self._mode = self._connection.transaction_mode
        self._connection.transaction_mode = "IMMEDIATE"
        self._enter_inner()

    def _enter_inner(self) -> None:
        try:
            self._inner.__enter__()
        except BaseException:
            self._connection.transaction_mode = self._mode
            raise

    def __exit__(self, *exc_info: Any) -> None:
        try:
            self._inner.__exit__(*exc_info)
        finally:
            self._connection.transaction_mode = self._mode
