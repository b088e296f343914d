"""Code blocks that say what is in hand inside them.

What a block brings counts until that block ends, for everybody who inherited it: a task that
outlives the block it was started in has nothing in hand any more, and nobody is left with a
suspended guard by a generator that ends elsewhere than it began.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import wraps
from inspect import isasyncgenfunction, isgeneratorfunction
from typing import Any, TypeVar, cast

from asgiref.sync import iscoroutinefunction
from django.db.models import Model

from lock_tokens.enforcement.context import State, _state, current
from lock_tokens.targets import Target, root_of
from lock_tokens.tokens import Presented, Tokens

logger = logging.getLogger("lock_tokens")

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(eq=False)
class Entry:
    """One entry into a block: what it put in hand, and what it has to give back."""

    block: Block
    tokens: tuple[Presented, ...] = ()
    # As in State: root models, None stands for all of them.
    suspended: frozenset[type[Model] | None] = frozenset()
    taken: tuple[tuple[Target, str], ...] = field(default=(), repr=False)
    ended: bool = False
    # What was in hand before it.
    outer: State | None = field(default=None, repr=False)


@dataclass(frozen=True)
class BlockState(State):
    """What is in hand inside blocks; ``tokens`` and ``suspended`` are those of all ``entries``."""

    # The innermost last.
    entries: tuple[Entry, ...] = ()

    def presented_for(self, target: Target) -> Tokens:
        lasting = self._lasting()
        return super().presented_for(target) if lasting is self else lasting.presented_for(target)

    def suspends(self, roots: Iterable[type[Model]]) -> bool:
        lasting = self._lasting()
        return super().suspends(roots) if lasting is self else lasting.suspends(roots)

    def _lasting(self) -> State:
        ended = any(entry.ended for entry in self.entries)
        return _with_entries(self, self.entries) if ended else self


def _entries_of(state: State) -> tuple[Entry, ...]:
    return state.entries if isinstance(state, BlockState) else ()


def _with_entries(state: State, entries: Iterable[Entry]) -> State:
    """Return ``state`` with those of ``entries`` that have not ended, and no others."""
    lasting = tuple(entry for entry in entries if not entry.ended)
    values = {item.name: getattr(state, item.name) for item in fields(State)}
    values["tokens"] = tuple(token for entry in lasting for token in entry.tokens)
    values["suspended"] = frozenset[Any]().union(*(entry.suspended for entry in lasting))
    return BlockState(**values, entries=lasting) if lasting else State(**values)


class Block:
    """A context manager, sync and async, that is also a decorator of functions of both kinds.

    A subclass says in ``enter`` what it puts in hand, and gives back in ``leave`` what it took.
    One block may be entered again before it was left: nested, and by other threads and tasks.
    """

    def __init__(self) -> None:
        self._open: set[Entry] = set()

    def enter(self) -> tuple[Entry, Any]:
        """Return the entry and the value of ``as``."""
        raise NotImplementedError

    def leave(self, entry: Entry, *, failed: bool) -> None:
        """Give back what ``entry`` took; ``failed`` if an error is on its way already."""

    def fresh(self) -> Block:
        """Return a block of the same meaning, for one call of a decorated function."""
        raise NotImplementedError

    def _begin(self, entry: Entry, value: Any) -> Any:
        self._open.add(entry)
        entry.outer = state = current()
        _state.set(_with_entries(state, (*_entries_of(state), entry)))
        return value

    def _end(self) -> list[Entry]:
        state = current()
        known = _entries_of(state)
        here = [entry for entry in known if entry.block is self and not entry.ended]
        # Where the block did not begin (a generator that somebody else closes) it cannot be
        # known which entry this is. It is safe to end them all, and not to end none.
        ending = here[-1:] or list(self._open)
        for entry in ending:
            entry.ended = True
            self._open.discard(entry)
        rest, outer = _with_entries(state, known), ending[-1].outer if ending else None
        _state.set(outer if outer == rest else rest)
        return ending

    def __enter__(self) -> Any:
        return self._begin(*self.enter())

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        for entry in self._end():
            self.leave(entry, failed=kind is not None)

    async def __aenter__(self) -> Any:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        self.__exit__(kind, *exc_info)

    def __call__(self, function: F) -> F:
        return in_blocks(function, type(self).__name__, lambda *args, **kwargs: self.fresh())


def in_blocks(function: F, name: str, block_for: Callable[..., Block]) -> F:
    """Return ``function`` such that each call runs in the block that ``block_for`` makes of it.

    Raises ``TypeError`` for what runs after its call has returned: the block would be over.
    """
    if isinstance(function, type) or not callable(function):
        raise TypeError(f"{name}() decorates functions and methods, not {function!r}.")
    if isgeneratorfunction(function) or isasyncgenfunction(function):
        raise TypeError(
            f"{name}() cannot decorate the generator {function.__qualname__}(): its body runs "
            f"after the call has returned. Put a with statement inside it."
        )
    if iscoroutinefunction(function):

        @wraps(function)
        async def awrapped(*args: Any, **kwargs: Any) -> Any:
            async with block_for(*args, **kwargs):
                return await function(*args, **kwargs)

        return cast(F, awrapped)

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with block_for(*args, **kwargs):
            return function(*args, **kwargs)

    return cast(F, wrapped)


class holding(Block):  # noqa: N801 - reads as the statement it is
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

    def enter(self) -> tuple[Entry, Any]:
        return Entry(self, tokens=self._presented), None


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

    def enter(self) -> tuple[Entry, Any]:
        names = ", ".join(model._meta.label for model in self.models) or "all models"
        logger.info("Enforcement suspended for %s: %s", names, self.reason)
        roots: set[type[Model] | None] = {root_of(model) for model in self.models}
        return Entry(self, suspended=frozenset(roots or {None})), None
