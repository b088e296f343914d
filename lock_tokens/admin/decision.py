"""What is decided about the lock of one object in one request for its page in the admin."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, cast

from django.contrib.admin.options import IS_POPUP_VAR
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from lock_tokens import locking, pages
from lock_tokens.enforcement.policy import families_of
from lock_tokens.enforcement.transactions import whole
from lock_tokens.exceptions import LockTokensError, WriteRefused
from lock_tokens.pages import HELD, LOCKED, PageLock
from lock_tokens.sessions import forget, session_key_of
from lock_tokens.targets import Target, target_of
from lock_tokens.tokens import RequestTokens

SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")


class LockedOut(Exception):  # noqa: N818 - not an error
    """The delete page was asked for while somebody else has the lock."""


class NotHeld(Exception):  # noqa: N818 - carries the error
    """A form was sent without the valid token of the object it edits."""

    def __init__(self, error: WriteRefused) -> None:
        self.error = error


class Editing:
    """One request for the page of one object, and what was decided about its lock."""

    def __init__(self, request: HttpRequest, *, deletes: bool = False) -> None:
        self.request = request
        self.deletes = deletes
        # The lock's object, and the key of the one that is edited: by VIA they are two.
        self.target: Target | None = None
        self.pk: Any = None
        # How the page that is answered stands to the lock.
        self.page: PageLock | None = None
        # The token under which this request may write.
        self.token: str | None = None
        # Why nothing was written; the form is then shown again, and not to be saved.
        self.error: LockTokensError | None = None
        # The form was shown, so nothing was written.
        self.shown = False
        self.transaction = ExitStack()

    @property
    def is_post(self) -> bool:
        return self.request.method not in SAFE

    @property
    def locked_out(self) -> bool:
        """Whether the object is somebody else's, and the request brings nothing to be kept."""
        return self.error is None and self.page is not None and self.page.token is None

    @property
    def compares(self) -> bool:
        """Whether the page shows what was typed beside what is stored, to be saved after a look."""
        stale = self.error is not None and self.token is None
        return stale and self.page is not None and self.page.state == HELD

    def enter(self, obj: Model, timeout: int | None) -> str | None:
        """Take the lock for a GET, ask for it for a POST.

        Returns the database in which ``obj`` is to be read again, ``None`` if it need not be.
        """
        target = self.target = lock_target(obj)
        self.pk = obj.pk
        if self.is_post:
            self._require(target)
        elif self.request.method == "GET":
            self.page = pages.open_page(self.request, target, timeout=timeout)
            replica = obj._state.db != target.using
            if self.page.state == HELD and (self.page.fresh or replica):
                return target.using
        else:
            page = pages.look(self.request, target)
            self.page = page if page.state == LOCKED else None
        return None

    def _require(self, target: Target) -> None:
        """Keep the lock's row for this transaction, or raise ``NotHeld``."""
        if self.page is not None:
            # Refused before: the page has been given what lock there is.
            return
        if not transaction.get_connection(target.using).in_atomic_block:
            self.transaction.enter_context(whole(target.using))
        try:
            self.token = pages.require_token(self.request, target)
        except WriteRefused as error:
            if self.error is None:
                raise NotHeld(error) from None
            # It has ended while another row was refused.
            self.page = pages.look(self.request, target)

    def refuse(self, error: LockTokensError, timeout: int | None) -> None:
        """Keep what was sent for the form that is shown again, with a new lock if there is one.

        The new lock comes before the reading of what will be shown beside it. Raises
        ``PermissionDenied`` for a request that has no business here.
        """
        self.error, self.token = error, None
        if self.target is None or not isinstance(error, WriteRefused):
            return
        self.page = pages.open_page(self.request, self.target, timeout=timeout)
        brings_token = RequestTokens(self.request).presented_for(self.target)
        if self.page.state != HELD and not brings_token:
            raise PermissionDenied(_("This is locked: %(why)s") % {"why": self.page.tell()})

    def keep(self, timeout: int | None) -> None:
        """Renew the lock for the form that is shown again though the token was right."""
        if self.token and self.target and self.page is None:
            lease = locking.renew(self.target, self.token, timeout=timeout)
            self.page = PageLock(self.request, self.target, lease, self.token)

    def end(self, response: HttpResponse, timeout: int | None) -> str | None:
        """End the life of the token after a save; return the one that follows, if one does."""
        if self.token is None or self.target is None or not self._has_saved(response):
            return self.token
        locking.release(self.target, self.token)
        if self.deletes or "_continue" not in self.request.POST:
            return None
        # In the same transaction, so that nobody comes between.
        user = getattr(self.request.user, "pk", None)
        return locking.acquire(self.target, timeout=timeout, by=user).token

    def _has_saved(self, response: HttpResponse) -> bool:
        redirects = 300 <= response.status_code < 400
        return not self.shown and (redirects or IS_POPUP_VAR in self.request.POST)

    def remember(self, token: str | None) -> None:
        """Let the session have ``token``, once it is committed, for the one of the request."""
        if self.token is None or self.target is None or token == self.token:
            return
        if token is not None:
            self.request.session[session_key_of(self.target)] = token
        else:
            forget(self.request.session, self.target, self.token)


def editing_of(request: HttpRequest) -> Editing | None:
    """Return what is being decided about the object of ``request``, in the views that lock."""
    return getattr(request, "_lock_tokens_editing", None)


def begin(request: HttpRequest, *, deletes: bool = False) -> Editing:
    editing = Editing(request, deletes=deletes)
    request._lock_tokens_editing = editing  # type: ignore[attr-defined]
    return editing


def is_locked_out(request: HttpRequest, obj: Model | None) -> bool:
    editing = editing_of(request)
    if obj is None or editing is None or not editing.locked_out:
        return False
    return bool(obj.pk == editing.pk)


def lock_target(obj: Model) -> Target:
    """Return what is locked while ``obj`` is edited. Statements: 0, or 1 a step of ``VIA``."""
    try:
        return target_of(_protector_of(obj))
    except ValueError as error:
        # A key that is too long to be locked.
        raise PermissionDenied(str(error)) from None


def _protector_of(obj: Model) -> Model:
    """Return the object to which ``VIA`` leads from ``obj``; where it leads nowhere, ``obj``."""
    ties = (tie for family in families_of(type(obj)) for tie in family.ties)
    for tie in ties:
        if tie.by_via and isinstance(obj, tie.model):
            end: Any = obj
            for name in tie.path:
                end = end and getattr(end, name)
            return cast(Model, end or obj)
    return obj
