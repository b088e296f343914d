"""Which tokens are in hand: those of the request, and those of the code block.

The state is an immutable value in a ContextVar, so no thread, task or request sees another's.
It is reached only through the context managers here, each of which is also a decorator.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, replace
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db.models import Model
from django.http import HttpRequest

from lock_tokens import locking
from lock_tokens.exceptions import InvalidToken
from lock_tokens.targets import Target, root_of, target_of
from lock_tokens.tokens import Presented, RequestTokens

logger = logging.getLogger("lock_tokens")

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class State:
    """What is in hand at one point of the code."""

    request: RequestTokens | None = None
    tokens: tuple[Presented, ...] = ()
    # The root models whose enforcement is off; None in it stands for all of them.
    suspended: frozenset[type[Model] | None] = frozenset()
    # What the guard has judged already in the write that is running.
    judged: frozenset[Target | int] = frozenset()

    def presented_for(self, target: Target) -> list[Presented]:
        """Return the tokens that may speak for ``target``."""
        mine = [p for p in self.tokens if p.target is None or p.target == target]
        return [*mine, *(self.request.presented_for(target) if self.request else ())]

    def suspends(self, model: type[Model]) -> bool:
        return None in self.suspended or root_of(model) in self.suspended


_state: ContextVar[State] = ContextVar("lock_tokens_state", default=State())  # noqa: B039 - frozen


def current() -> State:
    """Return what is in hand here and now."""
    return _state.get()


@contextmanager
def _entered(state: State) -> Iterator[None]:
    reset = _state.set(state)
    try:
        yield
    finally:
        _state.reset(reset)


def in_request(request: HttpRequest) -> AbstractContextManager[None]:
    """Return a context manager in which the tokens of ``request``, and no others, are in hand."""
    return _entered(State(request=RequestTokens(request)))


def judging(items: Iterable[Target | int]) -> AbstractContextManager[None]:
    """Return a context manager in which the guard does not judge ``items`` again."""
    state = _state.get()
    return _entered(replace(state, judged=state.judged | frozenset(items)))


class Block:
    """A context manager, sync and async, that is also a decorator of functions of both kinds.

    A subclass says what its state is: ``enter`` may take what it needs and returns the changed
    State and the value of ``as``; ``leave`` gives back. Both run in a thread in async code.
    """

    def __init__(self) -> None:
        self._resets: list[Token[State]] = []

    def enter(self, state: State) -> tuple[State, Any]:
        raise NotImplementedError

    def leave(self) -> None:
        """Give back what ``enter`` took."""

    def fresh(self) -> Block:
        """Return a block of the same meaning, for one call of a decorated function."""
        raise NotImplementedError

    def __enter__(self) -> Any:
        state, value = self.enter(_state.get())
        self._resets.append(_state.set(state))
        return value

    def __exit__(self, *exc_info: object) -> None:
        _state.reset(self._resets.pop())
        self.leave()

    async def __aenter__(self) -> Any:
        state, value = await sync_to_async(self.enter)(_state.get())
        self._resets.append(_state.set(state))
        return value

    async def __aexit__(self, *exc_info: object) -> None:
        _state.reset(self._resets.pop())
        await sync_to_async(self.leave)()

    def __call__(self, function: F) -> F:
        if iscoroutinefunction(function):

            @wraps(function)
            async def awrapped(*args: Any, **kwargs: Any) -> Any:
                async with self.fresh():
                    return await function(*args, **kwargs)

            return awrapped  # type: ignore[return-value]

        @wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self.fresh():
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]


class locked(Block):  # noqa: N801 - reads as the statement it is
    """Hold the locks of ``objects`` inside: ``with locked(article) as token: article.save()``.

    Takes them in one fixed order, all or none, for ``timeout`` seconds, in the name of the user
    ``by``; presents their tokens to the guard, and releases them at the end. A lock whose token
    is in hand already is renewed, and stays when the block ends. The value is the token, or a
    tuple of tokens in the order of ``objects``. Raises ``AlreadyLockedError`` when somebody else
    has one of them.
    """

    def __init__(self, *objects: Model, timeout: int | None = None, by: Any = None) -> None:
        super().__init__()
        if not objects:
            raise TypeError("locked() needs at least one object to lock.")
        self.objects = objects
        self.timeout = timeout
        self.by = by
        self._taken: list[tuple[Target, str]] = []

    def fresh(self) -> locked:
        return locked(*self.objects, timeout=self.timeout, by=self.by)

    def enter(self, state: State) -> tuple[State, Any]:
        for obj in self.objects:
            if obj._state.adding:
                raise ValueError(f"This {obj._meta.label} is unsaved, so it cannot be locked.")
        targets = [target_of(obj) for obj in self.objects]
        tokens: dict[Target, str] = {}
        try:
            for target in sorted(set(targets), key=lambda target: target.order):
                tokens[target] = self._take(state, target)
        except BaseException:
            self.leave()
            raise
        presented = tuple(Presented(token, target) for target, token in tokens.items())
        value = tuple(tokens[target] for target in targets)
        changed = replace(state, tokens=state.tokens + presented)
        return changed, value[0] if len(value) == 1 else value

    def _take(self, state: State, target: Target) -> str:
        for presented in state.presented_for(target):
            try:
                locking.renew(target, presented.token, timeout=self.timeout)
            except InvalidToken:
                continue
            return presented.token
        by = getattr(self.by, "pk", None)
        lock = locking.acquire(target, timeout=self.timeout, by=by)
        self._taken.append((target, lock.token))
        return lock.token

    def leave(self) -> None:
        taken, self._taken = self._taken, []
        for target, token in reversed(taken):
            # False when the object was deleted, or its lock broken: nothing is left to release.
            locking.release(target, token)


class holding(Block):  # noqa: N801
    """Present ``tokens`` that were got elsewhere, from a message queue for example.

    Each is a token or the dict that ``lock()`` returned.
    """

    def __init__(self, *tokens: str | Mapping[str, str]) -> None:
        super().__init__()
        given = [token["token"] if isinstance(token, Mapping) else token for token in tokens]
        if not given or not all(isinstance(token, str) and token for token in given):
            raise TypeError("holding() needs lock tokens: strings, or what lock() returned.")
        self._presented = tuple(Presented(token) for token in given)

    def fresh(self) -> holding:
        return holding(*(presented.token for presented in self._presented))

    def enter(self, state: State) -> tuple[State, Any]:
        return replace(state, tokens=state.tokens + self._presented), None


class suspended(Block):  # noqa: N801
    """Switch enforcement off inside, for ``models`` or for all of them.

    ``reason`` is required and logged.
    """

    def __init__(self, *models: type[Model], reason: str) -> None:
        super().__init__()
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError("suspended() needs a reason, it is logged.")
        self.models = models
        self.reason = reason

    def fresh(self) -> suspended:
        return suspended(*self.models, reason=self.reason)

    def enter(self, state: State) -> tuple[State, Any]:
        names = ", ".join(model._meta.label for model in self.models) or "all models"
        logger.info("Enforcement suspended for %s: %s", names, self.reason)
        roots: set[type[Model] | None] = {root_of(model) for model in self.models}
        return replace(state, suspended=state.suspended | (roots or {None})), None
