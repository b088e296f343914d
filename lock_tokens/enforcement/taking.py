"""Blocks that take locks, present their tokens, and release them: of objects, or of a call's."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from inspect import Parameter, Signature, signature
from math import inf
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import router, transaction
from django.db.models import Model, QuerySet

from lock_tokens import locking
from lock_tokens.batches import in_order
from lock_tokens.enforcement.blocks import Block, Entry, in_blocks
from lock_tokens.enforcement.context import State, current
from lock_tokens.exceptions import AlreadyLockedError, InvalidToken
from lock_tokens.targets import Target, target_of
from lock_tokens.tokens import Presented

logger = logging.getLogger("lock_tokens")

F = TypeVar("F", bound=Callable[..., Any])
Taken = Iterable[tuple[Target, str]]

# Seconds between the attempts of one who waits: the first and the longest, less some jitter.
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 0.5


def _pauses(wait: float | None) -> Iterator[float]:
    """Yield how long to sleep before each further attempt, until ``wait`` seconds are over."""
    if wait is None:
        return
    begun, slept, pause = time.monotonic(), 0.0, FIRST_PAUSE
    # What was slept counts too, as a test may have stopped the clock.
    while (left := wait - max(slept, time.monotonic() - begun)) > 0:
        now = min(left, pause * random.uniform(0.5, 1))  # noqa: S311 - not a secret
        yield now
        slept += now
        pause = min(pause * 1.5, LONGEST_PAUSE)


def _check_wait(wait: float | None) -> None:
    if wait is not None and (isinstance(wait, bool) or not isinstance(wait, (int, float))):
        raise TypeError(f"wait is a number of seconds or None, not {wait!r}.")
    if wait is not None and not 0 < wait < inf:
        raise ValueError(f"wait is a positive number of seconds or None, not {wait!r}.")


def _savepoints(targets: Set[Target]) -> ExitStack:
    """Return savepoints in the open transactions, where ``targets`` may have to be given up.

    A deleted lock would keep others waiting until the transaction ends, one that was rolled back
    does not.
    """
    stack = ExitStack()
    for using in {target.using for target in targets} if len(targets) > 1 else ():
        if transaction.get_connection(using).in_atomic_block:
            stack.enter_context(transaction.atomic(using=using))
    return stack


def _release(taken: Taken, *, failed: bool) -> None:
    """Release all that can be, and then raise what went wrong, unless an error is on its way."""
    errors = []
    for target, token in taken:
        if transaction.get_connection(target.using).needs_rollback:
            # No statement is possible any more, and the rollback takes the lock with it.
            continue
        try:
            # False when the object was deleted, or its lock broken: nothing is left to release.
            locking.release(target, token)
        except Exception as error:
            kind = type(error).__name__
            logger.warning("The lock of %s %s stays: %s", target.label, target.pk, kind)
            errors.append(error)
    if errors and not failed:
        raise errors[0]


async def _to_the_end(
    function: Callable[..., Any], *args: Any, undo: Callable[[Any], Any] | None = None
) -> Any:
    """Run ``function`` in the thread of sync code, even if the task is cancelled meanwhile.

    Then ``undo`` is run on what it returned, before the task ends.
    """
    outcome: Future[Any] = Future()

    def run() -> None:
        if outcome.set_running_or_notify_cancel():
            try:
                outcome.set_result(function(*args))
            except BaseException as error:
                outcome.set_exception(error)

    # The task itself can be cancelled when its loop closes; the thread goes on all the same.
    task = asyncio.ensure_future(sync_to_async(run)())
    task.add_done_callback(lambda task: outcome.cancel())
    awaited = asyncio.wrap_future(outcome)
    cancelled = None
    while not (task.done() and awaited.done()):
        try:
            await asyncio.wait({task, awaited})
        except asyncio.CancelledError as error:  # noqa: PERF203
            cancelled = error
    if awaited.cancelled():
        task.result()
    if cancelled is None:
        return awaited.result()
    if undo and not awaited.cancelled() and awaited.exception() is None:
        await _to_the_end(undo, awaited.result())
    raise cancelled


class Taking(Block):
    """A block that takes locks."""

    def __init__(self, *, timeout: int | None, by: Any, wait: float | None) -> None:
        super().__init__()
        _check_wait(wait)
        self.timeout = timeout
        self.by = by
        self.wait = wait

    def find(self) -> Sequence[Model]:
        """Return the objects to lock."""
        raise NotImplementedError

    def confirm(self, objects: Sequence[Model], targets: Sequence[Target]) -> None:
        """Look again at ``objects``, now that their locks are held."""

    def enter(self) -> tuple[Entry, Any]:
        pauses = _pauses(self.wait)
        while True:
            try:
                return self._attempt(current())
            except AlreadyLockedError:
                pause = next(pauses, None)
                if pause is None:
                    raise
            time.sleep(pause)

    async def __aenter__(self) -> Any:
        pauses = _pauses(self.wait)
        while True:
            try:
                return self._begin(
                    *await _to_the_end(self._attempt, current(), undo=self._give_back)
                )
            except AlreadyLockedError:
                pause = next(pauses, None)
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    async def __aexit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        for entry in self._end():
            await _to_the_end(partial(self.leave, entry, failed=kind is not None))

    def leave(self, entry: Entry, *, failed: bool) -> None:
        _release(reversed(entry.taken), failed=failed)

    def _give_back(self, entered: tuple[Entry, Any]) -> None:
        self.leave(entered[0], failed=True)

    def _attempt(self, state: State) -> tuple[Entry, Any]:
        """Take all locks or none."""
        objects = self.find()
        targets = [target_of(obj) for obj in objects]
        tokens: dict[Target, str] = {}
        taken: list[tuple[Target, str]] = []
        try:
            with _savepoints(set(targets)):
                for target in in_order(targets):
                    tokens[target] = self._take(state, target, taken)
                self.confirm(objects, targets)
        except BaseException:
            _release(reversed(taken), failed=True)
            raise
        presented = tuple(Presented(token, target) for target, token in tokens.items())
        value = tuple(tokens[target] for target in targets)
        entry = Entry(self, tokens=presented, taken=tuple(taken))
        return entry, value[0] if len(value) == 1 else value

    def _take(self, state: State, target: Target, taken: list[tuple[Target, str]]) -> str:
        for presented in state.presented_for(target):
            try:
                locking.renew(target, presented.token, timeout=self.timeout)
            except InvalidToken:
                continue
            return presented.token
        by = getattr(self.by, "pk", None)
        lock = locking.acquire(target, timeout=self.timeout, by=by)
        taken.append((target, lock.token))
        return lock.token


class locked(Taking):  # noqa: N801 - reads as the statement it is
    """Hold the locks of ``objects`` inside: ``with locked(article) as token: article.save()``.

    Takes them in one fixed order, all or none, for ``timeout`` seconds, in the name of the user
    ``by``; presents their tokens to the guard, and releases them at the end. A lock whose token
    is in hand already is renewed, and stays when the block ends. The value is the token, or a
    tuple of tokens in the order of ``objects``.

    Raises ``AlreadyLockedError`` when somebody else has one of them; with ``wait``, only if that
    is still so after so many seconds, in which none of them is held. With ``refresh`` the objects
    are read again once they are locked; ``DoesNotExist`` if one is gone.
    """

    def __init__(
        self,
        *objects: Model,
        timeout: int | None = None,
        by: Any = None,
        wait: float | None = None,
        refresh: bool = False,
    ) -> None:
        super().__init__(timeout=timeout, by=by, wait=wait)
        if not objects:
            raise TypeError("locked() needs at least one object to lock.")
        self.objects = objects
        self.refresh = refresh

    def fresh(self) -> locked:
        options = {"timeout": self.timeout, "by": self.by, "wait": self.wait}
        return locked(*self.objects, refresh=self.refresh, **options)

    def find(self) -> Sequence[Model]:
        for obj in self.objects:
            if obj._state.adding:
                raise ValueError(f"This {obj._meta.label} is unsaved, so it cannot be locked.")
        return self.objects

    def confirm(self, objects: Sequence[Model], targets: Sequence[Target]) -> None:
        if self.refresh:
            for obj, target in zip(objects, targets, strict=True):
                # Not from a replica, which may be behind.
                obj.refresh_from_db(using=target.using)


class _LockedKeys(Taking):
    """Hold the locks of the objects of ``model`` with these keys, found in the call."""

    def __init__(
        self, model: type[Model], keys: Sequence[Any], using: str | None, **options: Any
    ) -> None:
        super().__init__(by=None, **options)
        self.model = model
        self.keys = keys
        self.using = using

    def find(self) -> Sequence[Model]:
        using = self.using or router.db_for_write(self.model)
        found = self.model._base_manager.using(using).only("pk")
        # One by one: the key that is stored may be spelt differently, and it is the one to lock.
        return [found.get(pk=key) for key in self.keys]

    def confirm(self, objects: Sequence[Model], targets: Sequence[Target]) -> None:
        self.find()


def locks(
    model: type[Model],
    argument: str = "pk",
    *,
    wait: float | None = None,
    timeout: int | None = None,
    using: str | None = None,
) -> Callable[[F], F]:
    """Decorate a task or command to hold the lock of the object whose key its caller passes.

    The key of the ``model`` object is what the call passes as ``argument``, by name, by position
    or within ``**kwargs``; several keys in a list, tuple, set or queryset lock them all. The
    function then reads the object itself, under the lock::

        @shared_task
        @locks(Article, "article_id", wait=10)
        def publish(article_id): ...

    ``wait`` and ``timeout`` are as for ``locked``, ``using`` is the database. Raises
    ``AlreadyLockedError``, ``model.DoesNotExist`` or, when there is no such argument,
    ``TypeError``. Sync and async functions and methods.
    """
    if not (isinstance(model, type) and issubclass(model, Model)):
        raise TypeError(f"locks() needs a model, as in @locks(Article), not {model!r}.")
    _check_wait(wait)

    def decorate(function: F) -> F:
        def block_for(*args: Any, **kwargs: Any) -> Block:
            keys = _keys(model, _passed(function, parameters, argument, args, kwargs))
            return _LockedKeys(model, keys, using, wait=wait, timeout=timeout)

        wrapped = in_blocks(function, "locks", block_for)
        parameters = signature(function)
        if not _may_pass(parameters, argument):
            raise TypeError(f"{function.__qualname__}() has no parameter {argument!r} to lock by.")
        # Task queues check a call against it.
        wrapped.__signature__ = parameters  # type: ignore[attr-defined]
        return wrapped

    return decorate


def _may_pass(parameters: Signature, argument: str) -> bool:
    kinds = {name: parameter.kind for name, parameter in parameters.parameters.items()}
    if kinds.get(argument, Parameter.VAR_KEYWORD) is not Parameter.VAR_KEYWORD:
        return True
    return argument not in kinds and Parameter.VAR_KEYWORD in kinds.values()


def _passed(
    function: Callable[..., Any],
    parameters: Signature,
    argument: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Return what this call passes as ``argument``."""
    bound = parameters.bind(*args, **kwargs)
    bound.apply_defaults()
    if argument in parameters.parameters:
        return bound.arguments[argument]
    if argument not in kwargs:
        raise TypeError(f"{function.__qualname__}() was called without {argument!r} to lock by.")
    return kwargs[argument]


def _keys(model: type[Model], value: Any) -> Sequence[Any]:
    """Return the keys that ``value``, one or several, is meant as."""
    if isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, Set, QuerySet)):
        return [value]
    keys = list(value)
    if len(model._meta.pk_fields) > 1:
        # Queues turn tuples into lists.
        if not all(isinstance(key, (list, tuple)) for key in keys):
            return [tuple(keys)]
        return [tuple(key) for key in keys]
    return keys
