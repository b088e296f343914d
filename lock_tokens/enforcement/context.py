"""Which tokens are in hand: those of the request, and those of the code block.

The state is an immutable value in a ContextVar, so no thread, task or request sees another's.
It is changed only by the context managers here and by those of ``blocks`` and ``taking``.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

from django.db.models import Model
from django.http import HttpRequest

from lock_tokens.targets import Target
from lock_tokens.tokens import Presented, RequestTokens, Tokens


@dataclass(frozen=True)
class State:
    """What is in hand at one point of the code."""

    request: RequestTokens | None = None
    tokens: tuple[Presented, ...] = ()
    # The root models whose enforcement is off; None in it stands for all of them.
    suspended: frozenset[type[Model] | None] = frozenset()
    # What the guard has judged in the write that is running: subjects by their ``mark``, and the
    # ids of instances and querysets.
    judged: frozenset[Any] = frozenset()

    def presented_for(self, target: Target) -> Tokens:
        """Return the tokens that may speak for ``target``."""
        found = []
        if self.tokens:
            found = [self._by_target.get(None), self._by_target.get(target)]
        if self.request:
            found.append(self.request.presented_for(target))
        some = [tokens for tokens in found if tokens]
        # As they are, where they are all: what they are looked up by is made once then.
        return some[0] if len(some) == 1 else Tokens(chain.from_iterable(some))

    def judging(self, items: Iterable[Any]) -> State:
        """Return this state, with ``items`` among what is judged."""
        # Not by replace(), which takes as long as the database: every write does this.
        state = object.__new__(type(self))
        state.__dict__.update(self.__dict__, judged=self.judged.union(items))
        return state

    @cached_property
    def _by_target(self) -> dict[Target | None, Tokens]:
        found: dict[Target | None, Tokens] = {}
        for presented in self.tokens:
            found.setdefault(presented.target, Tokens()).append(presented)
        return found

    def suspends(self, roots: Iterable[type[Model]]) -> bool:
        """Tell whether enforcement is off for one of the models ``roots``."""
        return None in self.suspended or not self.suspended.isdisjoint(roots)


_state: ContextVar[State] = ContextVar("lock_tokens_state", default=State())  # noqa: B039 - frozen


def current() -> State:
    """Return what is in hand here and now."""
    return _state.get()


class _Entered:
    """Has ``state`` in hand inside. A class, because every write and every request pays for it."""

    __slots__ = ("_reset", "_state")

    def __init__(self, state: State) -> None:
        self._state = state

    def __enter__(self) -> None:
        self._reset = _state.set(self._state)

    def __exit__(self, *exc_info: object) -> None:
        _state.reset(self._reset)


class in_request(_Entered):  # noqa: N801 - used like a function
    """Has the tokens of ``request``, and no others, in hand inside."""

    __slots__ = ("_tokens",)

    def __init__(self, request: HttpRequest) -> None:
        self._tokens = RequestTokens(request)
        # By its dictionary, as in judging(): every request does this.
        self._state = object.__new__(State)
        self._state.__dict__["request"] = self._tokens

    def __exit__(self, *exc_info: object) -> None:
        super().__exit__(*exc_info)
        # A task that was started inside has inherited them, and may outlive the request.
        self._tokens.forget()


def in_view(tokens: RequestTokens) -> AbstractContextManager[None]:
    """Return a context manager in which ``tokens`` are those of the request that is served."""
    state = _state.get()
    # Without the middleware the view is where the request begins, and nothing around it counts.
    return _Entered(replace(state if state.request else State(), request=tokens))


def judging(items: Iterable[Any]) -> AbstractContextManager[None]:
    """Return a context manager in which the guard does not judge ``items`` again."""
    return _Entered(_state.get().judging(items))
