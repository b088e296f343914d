"""What presented tokens are worth for an object: the table of decisions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from lock_tokens import locking, settings
from lock_tokens.exceptions import LockRequired, ObjectLocked, StaleToken, WriteRefused
from lock_tokens.models import LockToken
from lock_tokens.targets import Target
from lock_tokens.tokens import Presented

# A write with the valid token renews a lock of which a smaller share than this is left.
RENEW_BELOW = 0.5


def allows(target: Target, lock: locking.Lock | None, tokens: Sequence[Presented]) -> bool:
    """Tell whether ``tokens`` have the valid one of ``lock``, the row of ``target`` now.

    Renews a lock of which less than half is left. Statements: 0, or 1 to renew.
    """
    if lock is None or not lock.matches(presented.token for presented in tokens):
        return False
    if lock.remaining() < timedelta(seconds=lock.timeout * RENEW_BELOW):
        locking.renew(target, lock.token)
    return True


def refusal(
    target: Target, lock: locking.Lock | None, tokens: Sequence[Presented], *, authenticated: bool
) -> WriteRefused:
    """Return the error for a write of ``target`` that ``tokens`` do not allow.

    ``authenticated`` says who is told. Statements: 0, or 1 for the holder's name or for what else
    the tokens belong to.
    """
    if lock is not None and not lock.has_expired():
        return object_locked(target, lock, authenticated=authenticated)
    kind = StaleToken if _has_stale(target, tokens) else LockRequired
    return kind(model_label=target.label, pk=target.pk)


def object_locked(
    target: Target, lock: locking.Lock | None, *, authenticated: bool
) -> ObjectLocked:
    """Return the error for a write of ``target``, which is somebody else's by ``lock``."""
    if lock is not None and lock.locked_by_id is not None and settings.current.SHOW_HOLDER:
        lock = locking.read(target, with_holder=True)
    facts = lock.facts(authenticated=authenticated) if lock else None
    return ObjectLocked(model_label=target.label, pk=target.pk, lock=facts)


def _has_stale(target: Target, tokens: Sequence[Presented]) -> bool:
    """Tell whether one of ``tokens`` was once given for ``target``.

    One that does not say what it was given for was, unless it is the valid token of another lock.
    """
    if any(presented.target is not None for presented in tokens):
        return True
    strings = {presented.token for presented in tokens}
    known = {token for token in strings if locking.is_token(token)}
    if known != strings or not strings:
        return bool(strings)
    locks = LockToken.objects.using(target.using).filter(token_str__in=strings)
    return locks.count() < len(strings)
