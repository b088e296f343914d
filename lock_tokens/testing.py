"""Helpers for the tests of projects that use locks; nothing of them outlives a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db.models import Model

from lock_tokens import locking
from lock_tokens.exceptions import WriteRefused
from lock_tokens.targets import target_of

try:
    import pytest
except ImportError:  # pragma: no cover - the helpers work without pytest, the fixture does not
    pytest = None  # type: ignore[assignment]


@contextmanager
def hold_lock(obj: Model, *, by: Any = None, timeout: int | None = None) -> Iterator[str]:
    """Be somebody else who holds the lock on ``obj``: nothing inside presents its token.

    ``by`` is that user; ``timeout`` is in seconds. The value is the token. Raises
    ``AlreadyLockedError`` when the object is locked.
    """
    target = target_of(obj)
    lock = locking.acquire(target, timeout=timeout, by=getattr(by, "pk", None))
    try:
        yield lock.token
    finally:
        locking.release(target, lock.token)


class Refusal:
    """What ``assert_write_refused`` caught, in ``error``."""

    error: WriteRefused


@contextmanager
def assert_write_refused(kind: type[WriteRefused] = WriteRefused) -> Iterator[Refusal]:
    """Assert that the write inside is refused with an error of ``kind``."""
    refusal = Refusal()
    try:
        yield refusal
    except kind as error:
        refusal.error = error
    else:
        raise AssertionError(f"The write was allowed; {kind.__name__} was expected.")


if pytest is not None:

    @pytest.fixture
    def held_lock(db: None) -> Iterator[Callable[..., str]]:
        """Return ``hold_lock`` as a function; its locks are released when the test ends.

        Put ``pytest_plugins = ["lock_tokens.testing"]`` into ``conftest.py``.
        """
        with ExitStack() as stack:

            def hold(obj: Model, **options: Any) -> str:
                return stack.enter_context(hold_lock(obj, **options))

            yield hold
