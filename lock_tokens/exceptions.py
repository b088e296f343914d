"""Every error and warning of the package, and the public facts they carry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, ClassVar

from django.apps import apps
from django.core.exceptions import PermissionDenied
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from lock_tokens import settings


@dataclass(frozen=True)
class LockFacts:
    """What may be told about a lock: ``since``, ``until`` and ``by``, never its token.

    ``by`` is the holder's user name where ``SHOW_HOLDER`` lets the reader know it, else ``None``.
    """

    since: datetime
    until: datetime
    by: str | None = None
    # Kept so that a response can decide again once it knows who is asking; never shown itself.
    _holder: str | None = field(default=None, repr=False, compare=False)

    def told_to(self, *, authenticated: bool) -> LockFacts:
        """Return the facts as a reader may see them who is ``authenticated`` or not."""
        show = settings.current.SHOW_HOLDER
        shown = show is True or (show == "authenticated" and authenticated)
        return replace(self, by=self._holder if shown else None)


class LockTokensError(Exception):
    """Root of all errors of this package.

    Attributes: ``model_label`` and ``pk`` of the object, ``lock`` (``LockFacts`` or ``None``).
    """

    status: ClassVar[int] = 403
    title: ClassVar[str] = gettext_noop("Refused")
    explanation: ClassVar[str] = gettext_noop("The operation on %(object)s was refused.")
    # The same without the words of developers, where it has any.
    for_people: ClassVar[str] = ""

    def __init__(
        self,
        message: str | None = None,
        *,
        model_label: str | None = None,
        pk: Any = None,
        lock: LockFacts | None = None,
    ) -> None:
        self.model_label = model_label
        self.pk = pk
        self.lock = lock
        self.message = message
        # Put into words when they are asked for: most refusals are handled, not read.
        super().__init__()

    def __str__(self) -> str:
        return self.describe(self.lock)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def describe(self, lock: LockFacts | None) -> str:
        """Return the message for a developer or a program that may know ``lock``."""
        name = f"{self.model_label} {self.pk}" if self.model_label else _("this object")
        text = self.message or _(self.explanation) % {"object": name}
        return f"{text} {_describe_lock(lock, _exactly)}" if lock else text

    def tell(self, lock: LockFacts | None) -> str:
        """Return the message for a person at a page or form who may know ``lock``."""
        name = _("this object")
        if self.model_label:
            name = f"{apps.get_model(self.model_label)._meta.verbose_name} {self.pk}"
        text = _(self.for_people or self.explanation) % {"object": name}
        text = text[:1].upper() + text[1:]
        if lock is None:
            return text
        # A moment may end in a point of its own: "p.m."
        return f"{text} {_describe_lock(lock, locally).replace('..', '.')}"


def _exactly(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="seconds")


def locally(moment: datetime) -> str:
    """Format ``moment`` in the reader's time zone and language."""
    local = timezone.localtime(moment) if timezone.is_aware(moment) else moment
    return date_format(local, "DATETIME_FORMAT")


def _describe_lock(lock: LockFacts, form: Callable[[datetime], str]) -> str:
    values = {"since": form(lock.since), "until": form(lock.until), "by": lock.by}
    if lock.by:
        return _("Locked since %(since)s until %(until)s by %(by)s.") % values
    return _("Locked since %(since)s until %(until)s.") % values


# The errors that 0.2.5 had are still OSErrors, for the sake of code that catches them as such.
class AlreadyLockedError(LockTokensError, OSError):
    """Somebody else's live lock is on the object."""

    status = 423
    title = gettext_noop("Locked")
    explanation = gettext_noop("%(object)s is already locked; try again when it is free.")


class InvalidToken(LockTokensError, OSError):  # noqa: N818 - the name of 0.2.5
    """The token is not, or no longer, the token of the object's lock."""

    status = 412
    title = gettext_noop("Stale lock token")
    explanation = gettext_noop(
        "The token is not the one of the lock on %(object)s; lock the object again and reload it."
    )


class UnlockForbiddenError(LockTokensError, OSError):
    """Only the holder of the valid token may unlock the object."""

    title = gettext_noop("Unlock forbidden")
    explanation = gettext_noop("%(object)s was not unlocked: the token is not the one of its lock.")


class WriteRefused(LockTokensError, PermissionDenied):  # noqa: N818
    """A write of an enforced object was refused; nothing was written."""

    title = gettext_noop("Write refused")
    explanation = gettext_noop("The write of %(object)s was refused.")
    # What was written, where it is another object that the lock of this one protects.
    protects: str = ""
    # The errors of all objects that were refused, where there are several.
    refused: Sequence[WriteRefused] = ()

    def describe(self, lock: LockFacts | None) -> str:
        text = super().describe(lock)
        if self.protects:
            values = {"row": self.protects, "object": f"{self.model_label} {self.pk}"}
            # By itself: xgettext reads no f-strings.
            protection = _("%(row)s is protected by the lock of %(object)s.") % values
            text = f"{protection} {text}"
        if len(self.refused) > 1:
            text = f"{self._describe_many()} {text}"
        return text

    def _describe_many(self) -> str:
        values = {"count": len(self.refused), "objects": names_of(self.refused)}
        return _("Nothing was written: %(count)s objects are refused, %(objects)s.") % values


class ObjectLocked(WriteRefused):
    """The object is locked, and the token of its lock was not presented."""

    status = 423
    title = gettext_noop("Locked")
    explanation = gettext_noop(
        "%(object)s was not written: it is locked and the token of that lock was not presented."
    )
    for_people = gettext_noop("%(object)s was not saved, because it is locked.")


class LockRequired(WriteRefused):
    """The object may be written only under a lock, and there is none."""

    status = 428
    title = gettext_noop("Lock required")
    explanation = gettext_noop(
        "%(object)s was not written: lock it first and present the token "
        "(header, form field, session or lock_tokens.enforcement.locked)."
    )
    for_people = gettext_noop(
        "%(object)s was not saved, because you do not have it locked. Open it again to edit it."
    )


class StaleToken(WriteRefused):
    """The presented token belonged to a lock that was replaced or removed."""

    status = 412
    title = gettext_noop("Stale lock token")
    explanation = gettext_noop(
        "%(object)s was not written: the presented token is stale, somebody may have "
        "changed the object since; reload it and lock it again."
    )
    for_people = gettext_noop(
        "%(object)s was not saved, because your lock on it has ended and somebody may have changed "
        "it since. Copy what you typed and open it again."
    )


# How many objects an error names before it only counts them.
NAMED = 10


def names_of(errors: Sequence[WriteRefused]) -> str:
    """Return the names of the objects of ``errors``, the first ten of them at most."""
    names = ", ".join(
        error.model_label or "" if error.pk is None else f"{error.model_label} {error.pk}"
        for error in errors[:NAMED]
    )
    more = len(errors) - NAMED
    return _("%(names)s and %(more)s more") % {"names": names, "more": more} if more > 0 else names


def refusal_of_many(errors: Sequence[WriteRefused]) -> WriteRefused:
    """Return one error for a write that ``errors`` stopped: the gravest, which knows the others.

    A locked object is graver than a stale token, and that than a missing lock.
    """
    graveness = (ObjectLocked, StaleToken, LockRequired, WriteRefused)
    error = min(errors, key=lambda error: graveness.index(type(error)))
    error.refused = tuple(errors)
    return error


class NoLockWarning(Warning):
    """The object whose token is checked has no lock at all."""


class LockExpiredWarning(Warning):
    """The token is valid, but its lock has expired and may be taken over any moment."""
