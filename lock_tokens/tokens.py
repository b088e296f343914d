"""The tokens that a request brings, and which of them may speak for an object."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256

from django.core.exceptions import BadRequest
from django.http import HttpRequest

from lock_tokens import settings
from lock_tokens.locking import is_among, is_token
from lock_tokens.sessions import session_key_of
from lock_tokens.targets import Target

MAX_TOKENS = 100
MULTIPART = "multipart/form-data"
FORMS = ("application/x-www-form-urlencoded", MULTIPART)


@dataclass(frozen=True)
class Presented:
    """A token in hand; ``target`` is what it was given for, where that is known."""

    token: str = field(repr=False)
    target: Target | None = None


class Tokens(list[Presented]):
    """Tokens in hand that may speak for an object."""

    def include(self, token: str) -> bool:
        """Tell whether ``token``, that of a lock, is among them; in constant time."""
        if len(self) > FEW:
            return hashed(token) in self._hashes
        return is_among((presented.token for presented in self), token)

    @cached_property
    def _hashes(self) -> set[bytes]:
        return {hashed(each.token) for each in self if is_token(each.token)}


NO_TOKENS = Tokens()
# Up to so many tokens are compared one by one: more could be brought for as many objects.
FEW = 8


def hashed(token: str) -> bytes:
    """Return what a set may look ``token`` up by: the time that takes tells nothing of it."""
    return sha256(token.encode()).digest()


class RequestTokens:
    """The tokens of one request, read when a write first asks for them."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        self._explicit: Tokens | None = None

    def presented_for(self, target: Target) -> Tokens:
        """Return the explicit tokens; only if the request brings none, what the session has."""
        if self._explicit is None:
            tokens = explicit_tokens(self.request)
            if tokens is None:
                return self._of_session(target)
            self._explicit = Tokens(map(Presented, tokens))
        return self._explicit

    def forget(self) -> None:
        """Present nothing any more: the request is over."""
        self._explicit = NO_TOKENS

    def _of_session(self, target: Target) -> Tokens:
        session = getattr(self.request, "session", None)
        token = session.get(session_key_of(target)) if session is not None else None
        return Tokens([Presented(token, target)] if isinstance(token, str) else ())

    @property
    def authenticated(self) -> bool:
        """Whether somebody is logged in, who may then be told more."""
        user = getattr(self.request, "user", None)
        return user is not None and user.is_authenticated


def explicit_tokens(request: HttpRequest) -> list[str] | None:
    """Return the tokens of header and form field, ``None`` when ``request`` has neither.

    A header or field that is there but empty is explicit: that form was made without a lock.
    Raises ``BadRequest`` for more than ``MAX_TOKENS``.
    """
    fields = form_tokens(request)
    if settings.current.TOKEN_HEADER not in request.headers and not fields:
        return None
    return checked([*header_tokens(request), *(token for token in fields if token)])


def header_tokens(request: HttpRequest) -> list[str]:
    """Return the tokens of the header. Raises ``BadRequest`` for more than ``MAX_TOKENS``."""
    header = request.headers.get(settings.current.TOKEN_HEADER, "")
    return checked([token.strip() for token in header.split(",") if token.strip()])


def form_tokens(request: HttpRequest) -> list[str]:
    """Return the values of the form field, empty ones included."""
    return parsed_tokens(request, request) if request.method == "POST" else []


def parsed_tokens(request: HttpRequest, parsed: HttpRequest) -> list[str]:
    """Return the values of the field in the form of ``request``, as it is or will be ``parsed``."""
    if request.content_type not in FORMS:
        return []
    form = parsed.POST
    if not form and not parsed.FILES and _is_lost(request):
        # The view read the stream itself, or it broke off. What the form presents cannot be
        # known any more: the session must not speak for a form that may be old.
        return [""]
    return [token.strip() for token in form.getlist(settings.current.TOKEN_FIELD)]


def keep_from_old_form(request: HttpRequest, token: str | None) -> None:
    """Let the form that ``request`` has sent, when it is shown again, not carry ``token``.

    That lock was taken after the form was filled in, and so does not speak for it.
    """
    request._lock_tokens_taken_later = token  # type: ignore[attr-defined]


def token_of_form(request: HttpRequest, token: str) -> str:
    """Return the token for the field of a form, where the session has ``token``.

    A form that is shown again keeps the one that it was sent with: what was stale stays stale.
    """
    sent = form_tokens(request)
    is_later = bool(token) and token == getattr(request, "_lock_tokens_taken_later", None)
    if token in sent or not (sent or is_later):
        return token
    return sent[0] if len(sent) == 1 else ""


def _is_lost(request: HttpRequest) -> bool:
    """Tell whether an empty form may be one that could not be parsed any more."""
    if request.content_type != MULTIPART:
        return getattr(request, "_read_started", False) and not hasattr(request, "_body")
    if "Transfer-Encoding" in request.headers:
        return True
    length = request.META.get("CONTENT_LENGTH") or "0"
    # A form without fields is its closing boundary: dashes before and after, and a line end.
    closing = len((request.content_params or {}).get("boundary", "")) + 6
    return not length.isdecimal() or int(length) > closing


def checked(tokens: list[str]) -> list[str]:
    """Return ``tokens``. Raises ``BadRequest`` for more than ``MAX_TOKENS``."""
    if len(tokens) > MAX_TOKENS:
        raise BadRequest(
            f"The request presents {len(tokens)} lock tokens; {MAX_TOKENS} at most are read."
        )
    return tokens
