"""What presented tokens are worth for an object: the table of decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from lock_tokens import locking, settings
from lock_tokens.exceptions import LockRequired, ObjectLocked, StaleToken, WriteRefused
from lock_tokens.models import LockToken
from lock_tokens.targets import Target
from lock_tokens.tokens import Presented, Tokens

# A write with the valid token renews a lock of which a smaller share than this is left.
RENEW_BELOW = 0.5


def allows(lock: locking.Lock | None, tokens: Tokens) -> bool:
    """Tell whether ``tokens`` have the valid one of ``lock``, the row of their object now."""
    return lock is not None and tokens.include(lock.token)


def wants_renewal(lock: locking.Lease, moment: datetime) -> bool:
    """Tell whether at ``moment`` less than half of the time of ``lock`` is left."""
    return lock.expires_at - moment < timedelta(seconds=lock.timeout * RENEW_BELOW)


class Case(NamedTuple):
    """An object that is not to be written: its lock, if any, and what was presented for it."""

    target: Target
    lock: locking.Lock | None
    tokens: Sequence[Presented]

    @property
    def is_locked(self) -> bool:
        return self.lock is not None and not self.lock.has_expired()


def refusals(cases: Sequence[Case], *, authenticated: bool) -> list[WriteRefused]:
    """Return the error for each of ``cases``, whose objects are in one database.

    ``authenticated`` says who is told. Statements: 0 to 2, for the names of the holders and for
    what else the tokens belong to.
    """
    names = _holders(cases)
    unknown = _tokens_of_no_lock(cases)
    return [_refusal(case, names, unknown, authenticated=authenticated) for case in cases]


def _refusal(
    case: Case, names: dict[Any, str], unknown: set[str], *, authenticated: bool
) -> WriteRefused:
    target, lock, tokens = case
    if lock is not None and case.is_locked:
        lock = replace(lock, holder=names.get(lock.locked_by_id))
        facts = lock.facts(authenticated=authenticated)
        return ObjectLocked(model_label=target.label, pk=target.pk, lock=facts)
    # A token that does not say what it was given for was given for this object, unless it is
    # the valid token of another lock.
    stale = any(each.target is not None or each.token in unknown for each in tokens)
    kind = StaleToken if stale else LockRequired
    return kind(model_label=target.label, pk=target.pk)


def _holders(cases: Sequence[Case]) -> dict[Any, str]:
    """Return the user names of those who hold the locks, by their keys."""
    keys = {
        case.lock.locked_by_id
        for case in cases
        if case.lock is not None and case.is_locked and case.lock.locked_by_id is not None
    }
    if not keys or not settings.current.SHOW_HOLDER:
        return {}
    return locking.user_names(keys)


def _tokens_of_no_lock(cases: Sequence[Case]) -> set[str]:
    """Return those of the tokens, presented for free objects, that no lock has any more."""
    strings = {
        presented.token
        for case in cases
        if not case.is_locked
        for presented in case.tokens
        if presented.target is None
    }
    known = {token for token in strings if locking.is_token(token)}
    if known:
        locks = LockToken.objects.using(cases[0].target.using).filter(token_str__in=known)
        strings -= set(locks.values_list("token_str", flat=True))
    return strings
