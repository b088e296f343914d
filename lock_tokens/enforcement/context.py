"""Which tokens are in hand: those of the request, and those of the code block.

The state is an immutable value in a ContextVar, so no thread, task or request sees another's.
It is changed only by the context managers here and by those of ``blocks`` and ``taking``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from django.db.models import Model
from django.http import HttpRequest

from lock_tokens.targets import Target
from lock_tokens.tokens import Presented, RequestTokens


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

    def presented_for(self, target: Target) -> list[Presented]:
        """Return the tokens that may speak for ``target``."""
        mine = [*self._by_target.get(None, ()), *self._by_target.get(target, ())]
        return [*mine, *(self.request.presented_for(target) if self.request else ())]

    @cached_property
    def _by_target(self) -> dict[Target | None, list[Presented]]:
        found: dict[Target | None, list[Presented]] = {}
        for presented in self.tokens:
            found.setdefault(presented.target, []).append(presented)
        return found

    def suspends(self, roots: Iterable[type[Model]]) -> bool:
        """Tell whether enforcement is off for one of the models ``roots``."""
        return None in self.suspended or not self.suspended.isdisjoint(roots)


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


@contextmanager
def in_request(request: HttpRequest) -> Iterator[None]:
    """Have the tokens of ``request``, and no others, in hand inside."""
    tokens = RequestTokens(request)
    try:
        with _entered(State(request=tokens)):
            yield
    finally:
        # A task that was started inside has inherited them, and may outlive the request.
        tokens.forget()


def in_view(tokens: RequestTokens) -> AbstractContextManager[None]:
    """Return a context manager in which ``tokens`` are those of the request that is served."""
    state = _state.get()
    # Without the middleware the view is where the request begins, and nothing around it counts.
    return _entered(replace(state if state.request else State(), request=tokens))


def judging(items: Iterable[Any]) -> AbstractContextManager[None]:
    """Return a context manager in which the guard does not judge ``items`` again."""
    state = _state.get()
    return _entered(replace(state, judged=state.judged | frozenset(items)))
