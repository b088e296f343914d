"""What a page may say of objects' locks, read for all objects of a list at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.paginator import Page
from django.db import router
from django.db.models import F, Model, QuerySet
from django.http import HttpRequest
from django.template import Context
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString

from lock_tokens import locking, settings
from lock_tokens.exceptions import LockFacts
from lock_tokens.models import LockToken
from lock_tokens.sessions import session_key_of
from lock_tokens.targets import Target, root_of, target_of

# How many objects one statement asks for, and how deep lists of lists are looked through.
AT_ONCE = 1000
DEPTH = 3
STATUSES = "lock_tokens.statuses"


@dataclass(frozen=True)
class LockStatus:
    """What a page may say of an object's lock; never its token."""

    is_locked: bool = False
    # The holder's user name where SHOW_HOLDER lets the reader know it.
    by: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    # Whether it is held by the session of the request, and so may be expired without being lost.
    mine: bool = False

    @property
    def seconds(self) -> float:
        """How long the lock is still live."""
        return (self.until - locking.now()) / timedelta(seconds=1) if self.until else 0.0

    @property
    def until_as_time(self) -> SafeString:
        """The end of the lock as a ``<time>``: with the date only if it is not today's."""
        if self.until is None:
            return SafeString("")
        local, today = _local(self.until), _local(locking.now()).date()
        form = "TIME_FORMAT" if local.date() == today else "DATETIME_FORMAT"
        return format_html(
            '<time datetime="{}" data-lock-tokens-time>{}</time>',
            local.isoformat(timespec="seconds"),
            date_format(local, form),
        )


def _local(moment: datetime) -> datetime:
    return timezone.localtime(moment) if timezone.is_aware(moment) else moment


FREE = LockStatus()


def status_in(context: Context, obj: Model) -> LockStatus:
    """Return the status of ``obj``'s lock, as the reader of a page with ``context`` may know it.

    Statements: 1 for all objects that are in the same list, tuple, page or evaluated queryset of
    ``context``; 1 more for the names of the holders where users are in another database.
    """
    target = lockable_target(obj)
    if target is None:
        return FREE
    known = _remembered(context)
    if target not in known:
        together = {target: obj, **_beside(context, obj, target)}
        known.update(read(request_in(context), together))
    return known[target]


def lockable_target(obj: Model) -> Target | None:
    """Return the target of ``obj``, ``None`` if it is unsaved or cannot be locked."""
    if obj._state.adding:
        return None
    try:
        return target_of(obj)
    except ValueError:
        return None


def _remembered(context: Context) -> dict[Target, LockStatus]:
    """Return what was found while the outermost template is being rendered, also by includes."""
    # The second from the bottom: the first is never emptied, and an include hides the others.
    levels: Any = context.render_context.dicts[:2]
    found: dict[Target, LockStatus] = levels[-1].setdefault(STATUSES, {})
    return found


def _beside(context: Context, obj: Model, target: Target) -> dict[Target, Model]:
    """Return the objects in a collection of the context that has ``obj`` too, and their targets."""
    for layer in context.dicts:
        for value in layer.values():
            row = [each for each in _members(value, DEPTH) if _is_like(each, obj)]
            targets = [(lockable_target(each), each) for each in row]
            places = [place for place, (each, _obj) in enumerate(targets) if each == target]
            if places:
                some = targets[places[0] : places[0] + AT_ONCE]
                return {each: member for each, member in some if each is not None}
    return {}


def _is_like(other: Model, obj: Model) -> bool:
    return root_of(type(other)) is root_of(type(obj)) and other._state.db == obj._state.db


def _members(value: Any, depth: int) -> Iterator[Model]:
    """Yield the objects in ``value`` without asking the database."""
    # By its type: to ask a lazy object for its class would evaluate it.
    kind = type(value)
    if issubclass(kind, Model):
        if depth < DEPTH:
            yield value
        # What was prefetched for an object is in no variable while a loop goes over it.
        prefetched = getattr(value, "_prefetched_objects_cache", {})
        value, kind = list(prefetched.values()), list
    if issubclass(kind, Page):
        value, kind = value.object_list, type(value.object_list)
    if issubclass(kind, QuerySet):
        value, kind = value._result_cache or (), list
    if issubclass(kind, dict):
        value, kind = list(value.values()), list
    if issubclass(kind, (list, tuple)) and depth > 0:
        for member in value:
            yield from _members(member, depth - 1)


def read(request: HttpRequest | None, objects: dict[Target, Model]) -> dict[Target, LockStatus]:
    """Return what the sender of ``request`` may know of the locks on ``objects``, of one database.

    Statements: 1, and 1 more for the names of the holders where users are in another database.
    """
    users = get_user_model()
    using = next(iter(objects)).using
    joined = router.db_for_write(users) == using
    locks: Any = LockToken.objects.all()
    if joined:
        locks = locks.annotate(holder=F(f"locked_by__{users.USERNAME_FIELD}"))
    found = locks.for_objects(objects.values())
    names = {} if joined else _names(found.values())
    statuses = dict.fromkeys(objects, FREE)
    for target, obj in objects.items():
        if (lock := found.get(obj)) is not None:
            holder = lock.holder if joined else names.get(lock.locked_by_id)
            statuses[target] = _status_of(request, target, lock, holder)
    return statuses


def request_in(context: Context) -> HttpRequest | None:
    """Return the request of ``context``, if it has one."""
    request = context.get("request")
    return request if isinstance(request, HttpRequest) else None


def _names(locks: Iterable[LockToken]) -> dict[Any, str]:
    keys = {lock.locked_by_id for lock in locks if lock.locked_by_id is not None}
    return locking.user_names(keys) if keys and settings.current.SHOW_HOLDER else {}


def _status_of(
    request: HttpRequest | None, target: Target, lock: LockToken, holder: str | None
) -> LockStatus:
    session = getattr(request, "session", None)
    token = session.get(session_key_of(target)) if session is not None else None
    mine = locking.same_token(lock.token_str, token)
    if lock.has_expired():
        return LockStatus(mine=mine)
    user = getattr(request, "user", None)
    facts = LockFacts(lock.created, lock.get_expiration_datetime(), _holder=holder)
    facts = facts.told_to(authenticated=user is not None and user.is_authenticated)
    return LockStatus(True, facts.by, facts.since, facts.until, mine)
