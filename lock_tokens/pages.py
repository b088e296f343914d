"""An open page and the lock on the object it shows: who has it, keeping it, leaving it.

The page's script asks; what it is told is here. Taking a lock over is in ``takeover``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.request import HttpHeaders
from django.middleware.csrf import get_token
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from lock_tokens import batches, locking, settings, verdicts
from lock_tokens.exceptions import AlreadyLockedError, InvalidToken, LockFacts, locally
from lock_tokens.locking import Lease, Lock
from lock_tokens.responses import prefers_json
from lock_tokens.sessions import remember, session_key_of, take_for_session, user_of
from lock_tokens.targets import Target
from lock_tokens.tokens import RequestTokens, header_tokens

# Seconds that a lock lives on after its page was left: another tab of the session keeps it.
GRACE = 3
# Seconds without a key or a click after which a page renews no more.
IDLE = 900

HELD, LOST, LOCKED, FREE = "held", "lost", "locked", "free"

# What the page's script says by itself; ``{time}`` is the time that is left.
MESSAGES = {
    "countdown": gettext_noop("The lock has {time} left."),
    "free": gettext_noop("It is free now."),
    "free_typed": gettext_noop(
        "It is free now. Save again to compare what you typed with what is stored."
    ),
    "edit": gettext_noop("Edit now"),
    "idle": gettext_noop(
        "You have been away for a while, so your lock is not renewed any more. It ends in {time}."
    ),
    "idle_over": gettext_noop(
        "You have been away for a while and your lock has ended. Somebody else may take it."
    ),
    "go_on": gettext_noop("Go on editing"),
    "offline": gettext_noop("No connection. Trying again."),
    "online": gettext_noop("The connection is back, and the lock is still yours."),
    "back": gettext_noop("The connection is back."),
    "logged_out": gettext_noop("You are logged out. Log in again in another tab, then go on here."),
    "forbidden": gettext_noop("You may not edit this any more."),
    "trouble": gettext_noop("The server has trouble. Trying again."),
    "copy": gettext_noop("Copy my text"),
    "copied": gettext_noop("Copied."),
    "reload": gettext_noop("Open it afresh"),
}


@dataclass(frozen=True)
class PageLock:
    """How a page, that of ``request``, stands to the lock on the object it shows."""

    request: HttpRequest
    target: Target
    # The row as it is now. After the page has taken it only the lease is known.
    lock: Lease | None
    # What the page presents, if it is one that edits.
    token: str | None = field(default=None, repr=False)
    # The lock was not the session's before: what was read until then may be out of date.
    fresh: bool = False

    @cached_property
    def state(self) -> str:
        """``held`` or ``lost`` for a page with a token, ``locked`` or ``free`` for one without."""
        if self.token is not None:
            held = self.lock and (not isinstance(self.lock, Lock) or self._has(self.token))
            return HELD if held else LOST
        return LOCKED if self._is_live() and not self.is_of_session else FREE

    def _is_live(self) -> bool:
        return self.lock is not None and not self.lock.has_expired()

    def _has(self, token: object) -> bool:
        return isinstance(self.lock, Lock) and self.lock.matches([token])

    @cached_property
    def is_of_session(self) -> bool:
        """Whether the session of the request has the token of the lock."""
        session = getattr(self.request, "session", {})
        return self._has(session.get(session_key_of(self.target)))

    @cached_property
    def is_of_user(self) -> bool:
        """Whether the lock was taken by the user of the request, in whatever session."""
        holder = getattr(self.lock, "locked_by_id", None)
        return holder is not None and holder == getattr(self._user, "pk", None)

    @property
    def _user(self) -> Any:
        return getattr(self.request, "user", None)

    @cached_property
    def facts(self) -> LockFacts | None:
        """What the reader of the page may know of the lock, while it is live."""
        if not self._is_live() or self.lock is None:
            return None
        return self.lock.facts(authenticated=bool(self._user and self._user.is_authenticated))

    @property
    def seconds(self) -> float:
        """How many seconds are left until somebody else may take the lock; 0 if there is none."""
        left = self.lock.remaining() / timedelta(seconds=1) if self.lock else 0
        return round(max(0.0, left), 1)

    @property
    def stamp(self) -> str:
        """Tells this renewal of the lock from others."""
        return stamp_of(self.lock) if self.lock else ""

    def tell(self, *, html: bool = False) -> str:
        """Return what the person at the page is to know, as text or as HTML."""
        facts = self.facts or LockFacts(locking.now(), locking.now())
        show = _element if html else locally
        values = {
            "by": format_html("<bdi>{}</bdi>", facts.by) if html else facts.by,
            "since": show(facts.since),
            "until": show(facts.until),
        }
        text = self._explanation()
        return format_html(text, **values) if html else text.format(**values)

    def _explanation(self) -> str:
        if self.state == LOST:
            return self._loss()
        if self.state != LOCKED or self.facts is None:
            return ""
        if self.is_of_user:
            return _(
                "You are editing this in another session: since {since}, until {until} unless "
                "the lock is renewed."
            )
        if self.facts.by:
            return _(
                "{by} is editing this: since {since}, until {until} unless the lock is renewed."
            )
        return _(
            "Somebody is editing this: since {since}, until {until} unless the lock is renewed."
        )

    def _loss(self) -> str:
        if self.is_of_session:
            return _(
                "This form is out of date: you have saved or opened it in another tab since. "
                "Nothing of what you typed here is lost, but it cannot be saved as it is."
            )
        if self.facts is None:
            return _(
                "Your lock has ended, and this may have been changed since. "
                "What you typed is still here."
            )
        if self.is_of_user:
            return _(
                "At {since} you took this lock over in another session. "
                "What you typed is still here."
            )
        if self.facts.by:
            return _("At {since} {by} took the lock over. What you typed is still here.")
        return _("At {since} somebody took the lock over. What you typed is still here.")

    def as_json(self) -> dict[str, Any]:
        """Return what the page's script is told; never a token."""
        facts = self.facts
        return {
            "state": self.state,
            "seconds": self.seconds,
            "renewed": self.stamp if self.state == HELD else None,
            "by": facts and facts.by,
            "since": facts and facts.since.isoformat(),
            "until": facts and facts.until.isoformat(),
            # Its moments are put in by the script, in the reader's own time zone.
            "message": self._explanation().replace("{by}", (facts and facts.by) or ""),
        }

    def attributes(self, url: str, *, idle: int | None, typed: bool = False) -> dict[str, Any]:
        """Return the attributes of the script element that keeps the page.

        ``url`` is where the script asks, ``idle`` the seconds after which it renews no more;
        ``typed`` says that the form has what somebody typed, though the page has no lock.
        """
        held = self.state == HELD
        found = {
            **csrf_attributes(),
            "data-url": url,
            "data-state": HELD if held else LOCKED,
            "data-seconds": self.seconds,
            "data-header": settings.current.TOKEN_HEADER,
            "data-field": settings.current.TOKEN_FIELD,
            "data-messages": json.dumps({key: _(text) for key, text in MESSAGES.items()}),
        }
        if held:
            found |= {"data-token": self.token, "data-renewed": self.stamp}
        elif self.is_of_user:
            # Perhaps of another tab that was opened in the same instant: it is known in a moment.
            found["data-own"] = "true"
        if idle is not None:
            found["data-idle"] = idle
        if typed:
            found["data-typed"] = "true"
        return {"defer": True, **found}


def csrf_attributes() -> dict[str, str]:
    """Return what a script has to know of the CSRF protection."""
    return {
        "data-csrf-cookie": django_settings.CSRF_COOKIE_NAME,
        "data-csrf-header": HttpHeaders.parse_header_name(django_settings.CSRF_HEADER_NAME) or "",
    }


def stamp_of(lease: Lease) -> str:
    """Return what tells one renewal of a lock from another."""
    moment = lease.locked_at
    return (moment.astimezone(timezone.utc) if moment.tzinfo else moment).isoformat()


def _element(moment: datetime) -> str:
    """Return the element for ``moment``, which the page's script shows in the reader's own zone."""
    return format_html(
        '<time datetime="{}" data-lock-tokens-time>{}</time>', moment.isoformat(), locally(moment)
    )


def open_page(request: HttpRequest, target: Target, *, timeout: int | None = None) -> PageLock:
    """Take the lock for the session of ``request``, or find out who has it.

    ``timeout`` is in seconds. Statements: 1, or up to 3 when somebody else has it.
    """
    try:
        token, lease, fresh = take_for_session(
            target, request.session, force_new=True, timeout=timeout
        )
    except AlreadyLockedError:
        return look(request, target)
    return PageLock(request, target, lease, token, fresh)


def look(request: HttpRequest, target: Target, token: str | None = None) -> PageLock:
    """Return how a page with ``token``, or with none, stands to the lock now. Statements: 1."""
    return PageLock(request, target, locking.read(target, with_holder=True), token)


def require_token(request: HttpRequest, target: Target) -> str:
    """Hold the lock's row for this transaction and return its token, if ``request`` presents it.

    Raises ``WriteRefused`` if it does not. Statements: 1; 1 more to renew a lock of which less
    than half is left; up to 2 more for a refusal.
    """
    lock = locking.hold(target)
    brought = RequestTokens(request)
    tokens = brought.presented_for(target)
    if lock is None or not verdicts.allows(lock, tokens):
        case = verdicts.Case(target, lock, tokens)
        raise verdicts.refusals([case], authenticated=brought.authenticated)[0]
    if verdicts.wants_renewal(lock, locking.now()):
        batches.renew({target: lock})
    return lock.token


def is_of_script(request: HttpRequest) -> bool:
    """Tell whether the script of a page asks, and not the person who reads it."""
    return settings.current.TOKEN_HEADER in request.headers or prefers_json(request)


def answer(request: HttpRequest, target: Target) -> HttpResponse:
    """Answer the script of a page that shows the object of ``target``.

    A GET asks for the state of the lock. A POST with the page's token in the header says what the
    page does: ``renew`` while somebody is there, ``watch`` when not, ``leave`` with the stamp of
    its last renewal. Statements: 1, or 2 when a lock is renewed or left.
    """
    if request.method != "POST":
        # A login in another tab has changed the CSRF token; what was typed here is to be saved.
        told = {**look(request, target).as_json(), "csrf": get_token(request)}
    else:
        tokens = header_tokens(request)
        if len(tokens) != 1:
            raise BadRequest(f"{settings.current.TOKEN_HEADER} has to have the page's token.")
        do = _DOINGS.get(request.POST.get("action", ""), _unknown)
        told = do(request, target, tokens[0]).as_json()
    response = JsonResponse(told)
    response["Cache-Control"] = "no-store"
    return response


def _watch(request: HttpRequest, target: Target, token: str) -> PageLock:
    """Return how the page stands to the lock, and see to it that its session has the token.

    A session is saved whole, so of two requests at once, two tabs that are opened together say,
    the one that ends last takes from it what the other had put there.
    """
    page = look(request, target, token)
    if page.state == HELD and _is_by_user_of(page):
        remember(request.session, target, token)
    return page


def _is_by_user_of(page: PageLock) -> bool:
    """Tell whether the lock was taken under the login that the request has, or without any."""
    return bool(getattr(page.lock, "locked_by_id", None) == user_of(page.request.session))


def _renew(request: HttpRequest, target: Target, token: str) -> PageLock:
    page = _watch(request, target, token)
    lock = page.lock
    if page.state != HELD or lock is None or not verdicts.wants_renewal(lock, locking.now()):
        return page
    try:
        return PageLock(request, target, locking.renew(target, token), token)
    except InvalidToken:
        return look(request, target, token)


def _leave(request: HttpRequest, target: Target, token: str) -> PageLock:
    page = look(request, target, token)
    lock = page.lock
    # Renewed since by another tab, or by this page's own reload, it is not to be left.
    if isinstance(lock, Lock) and page.state == HELD and page.stamp == request.POST.get("renewed"):
        locking.shorten(target, lock, GRACE)
    return page


def _unknown(request: HttpRequest, target: Target, token: str) -> PageLock:
    raise BadRequest(f"A page does one of these: {', '.join(_DOINGS)}.")


_DOINGS = {"renew": _renew, "watch": _watch, "leave": _leave}
