"""A lock's token remembered in a session."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, NamedTuple

from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import ValidationError
from django.db import connections, router
from django.db.models import Model

from lock_tokens import locking
from lock_tokens.exceptions import InvalidToken, UnlockForbiddenError
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.targets import Target, target_of

TOKEN = re.compile("[0-9a-f]{32}")


def session_key_of(target: Target) -> str:
    """Return the name under which a session keeps the token of the lock on ``target``."""
    name = f"{target.model._meta.app_label}_{target.model._meta.model_name}_{target.key}"
    # The same key in another database is another object.
    elsewhere = target.using != router.db_for_write(target.model)
    return f"{target.using}:{name}" if elsewhere else name


def get_session_key(obj: Model) -> str:
    """Return the name under which a session keeps the token: ``session[get_session_key(obj)]``."""
    return session_key_of(target_of(obj))


def user_of(session: SessionBase) -> Any:
    """Return the key of the user who is logged in to ``session``, or ``None``."""
    try:
        return get_user_model()._meta.pk.to_python(session.get(SESSION_KEY))
    except ValidationError:
        return None


def lock_for_session(
    obj: Model, session: SessionBase, force_new: bool = False, *, timeout: int | None = None
) -> dict[str, str]:
    """Take the lock on ``obj`` for ``session`` for ``timeout`` seconds, or renew it.

    A session that holds the lock renews it, so a second tab locks nobody out. A session whose
    token is stale gets ``InvalidToken``, because what it read may be out of date; with
    ``force_new`` it gets a fresh lock: only for views that have read nothing of ``obj`` yet.
    Returns ``{"token": …, "expires": …}``. Raises ``AlreadyLockedError`` when somebody else's
    lock is live; the session keeps what it had. Statements: 1, or 2 when the token is stale.
    """
    taken = take_for_session(target_of(obj), session, force_new, timeout=timeout)
    return taken.lease.serialize(taken.token)


class Taken(NamedTuple):
    """A lock that a session has; ``fresh`` if it was not the session's before."""

    token: str
    lease: locking.Lease
    fresh: bool

    def __repr__(self) -> str:
        return f"Taken(lease={self.lease!r}, fresh={self.fresh})"


def take_for_session(
    target: Target, session: SessionBase, force_new: bool = False, *, timeout: int | None = None
) -> Taken:
    """Take the lock on ``target``; as ``lock_for_session``."""
    name = session_key_of(target)
    token = session.get(name)
    if token is not None:
        try:
            return Taken(token, locking.renew(target, token, timeout=timeout), fresh=False)
        except InvalidToken:
            if not force_new:
                raise
    lock = locking.acquire(target, timeout=timeout, by=user_of(session))
    session[name] = lock.token
    return Taken(lock.token, lock, fresh=True)


def unlock_for_session(obj: Model, session: SessionBase) -> None:
    """Remove the lock that ``session`` holds on ``obj``.

    Raises ``UnlockForbiddenError`` when it holds none. Statements: 1.
    """
    target = target_of(obj)
    token = session.pop(session_key_of(target), None)
    if token is None or not locking.release(target, token):
        raise UnlockForbiddenError(model_label=target.label, pk=target.pk)


def check_for_session(obj: Model, session: SessionBase) -> bool:
    """Tell whether ``session`` holds the lock on ``obj``, with the warnings of ``check_lock``.

    Statements: 1.
    """
    return LockableModel.check_lock(obj, session.get(get_session_key(obj)))  # type: ignore[arg-type]


def remember(session: SessionBase, target: Target, token: str) -> None:
    """Let ``session`` have ``token``, that of the lock on ``target``, if it has another or none."""
    name = session_key_of(target)
    # Only a change has the session saved.
    if session.get(name) != token:
        session[name] = token


def forget(session: Any, target: Target, token: str) -> None:
    """Let ``session`` have no token for ``target`` any more, if it has ``token``."""
    name = session_key_of(target)
    if session.get(name) == token:
        del session[name]


def release_all(session: SessionBase) -> None:
    """Remove every lock whose token is in ``session``.

    Statements: none without a token, else 1 a database with locks and 1 a lock.
    """
    tokens = [
        value for value in session.values() if isinstance(value, str) and TOKEN.fullmatch(value)
    ]
    for using in connections if tokens else ():
        if router.allow_migrate_model(using, LockToken):
            for lock in LockToken.objects.using(using).filter(token_str__in=tokens):
                # A model that is not installed any more must not keep anybody from logging out.
                with suppress(ValueError):
                    target = lock.get_target(using)
                    # A replica has the row too, and cannot delete it.
                    if router.db_for_write(target.model, instance=lock) == using:
                        locking.release(target, lock.token_str)


def release_at_logout(request: Any, **kwargs: Any) -> None:
    """Receive ``user_logged_out``: who leaves keeps nobody waiting."""
    session = getattr(request, "session", None)
    if session is not None:
        release_all(session)
