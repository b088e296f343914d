"""An error of the package becomes an answer: problem+json (RFC 9457) or a page."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.template.loader import render_to_string
from django.utils.cache import patch_vary_headers
from django.utils.translation import gettext as _

from lock_tokens import locking
from lock_tokens.exceptions import NAMED, LockFacts, LockTokensError

PAGE = "text/html"
PROBLEM = "application/problem+json"


def refusal(request: HttpRequest, error: LockTokensError, **more: Any) -> HttpResponse:
    """Return the answer to ``request`` that ``error`` calls for, as JSON or as a page.

    It names the holder only to those whom ``SHOW_HOLDER`` allows, and is not cached. ``more`` is
    for the context of the page.
    """
    if prefers_json(request):
        response = refusal_as_json(request, error)
    else:
        context = {
            **more,
            "title": _(error.title),
            "detail": tell(request, error),
            "lock": _facts_for(request, error),
            "status": error.status,
            "is_write": request.method not in ("GET", "HEAD"),
        }
        page = render_to_string("lock_tokens/refused.html", context, request)
        response = HttpResponse(page, status=error.status)
        finish(response, error)
    patch_vary_headers(response, ["Accept"])
    return response


def refusal_as_json(
    request: HttpRequest, error: LockTokensError, status: int | None = None
) -> HttpResponse:
    """Return the problem+json for ``error``, with its own status or with ``status``."""
    members = problem_of(request, error, status)
    response = JsonResponse(members, status=members["status"], content_type=PROBLEM)
    finish(response, error)
    return response


def problem_of(
    request: HttpRequest, error: LockTokensError, status: int | None = None
) -> dict[str, Any]:
    """Return the members of the problem (RFC 9457) that ``error`` is to ``request``."""
    lock = _facts_for(request, error)
    members: dict[str, Any] = {
        "title": _(error.title),
        "status": status or error.status,
        "detail": error.describe(lock),
        "type": f"urn:django-lock-tokens:{type(error).__name__}",
    }
    if error.model_label:
        members["object"] = {"model": error.model_label, "pk": str(error.pk)}
    if lock:
        since, until = lock.since.isoformat(), lock.until.isoformat()
        members["lock"] = {"since": since, "until": until, "by": lock.by}
    return members


def problem(status: int, title: str, detail: str) -> HttpResponse:
    """Return a problem+json answer."""
    content = {"title": title, "status": status, "detail": detail}
    return JsonResponse(content, status=status, content_type=PROBLEM)


def finish(response: HttpResponseBase, error: LockTokensError) -> None:
    """Set the headers that go with ``error``."""
    response["Cache-Control"] = "no-store"
    if error.lock and response.status_code == 423:
        response["Retry-After"] = str(retry_after(error.lock))


def tell(request: HttpRequest, error: LockTokensError) -> str:
    """Return the message of ``error`` for the person who sent ``request``."""
    return error.tell(_facts_for(request, error))


def tell_all(request: HttpRequest, error: LockTokensError) -> str:
    """Return the messages of ``error`` and of all objects that were refused with it."""
    refused = getattr(error, "refused", ()) or (error,)
    told = [tell(request, each) for each in refused[:NAMED]]
    if len(refused) > NAMED:
        told.append(_("And %(more)s more.") % {"more": len(refused) - NAMED})
    return " ".join(told)


def _facts_for(request: HttpRequest, error: LockTokensError) -> LockFacts | None:
    return error.lock.told_to(authenticated=_is_known(request)) if error.lock else None


def _is_known(request: HttpRequest) -> bool:
    user = getattr(request, "user", None)
    return user is not None and user.is_authenticated


def status_of(request: HttpRequest, lock: locking.Lock | None) -> dict[str, Any]:
    """Return what the sender of ``request`` may know of the object whose lock is ``lock``."""
    if lock is None or lock.has_expired():
        return {"locked": False, "expires": None, "locked_by": None}
    return {
        "locked": True,
        "expires": lock.serialize("")["expires"],
        "locked_by": lock.facts(authenticated=_is_known(request)).by,
    }


def timeout_header(lease: locking.Lease) -> str:
    """Return the value of ``Timeout`` (RFC 4918) for the holder of ``lease``."""
    return f"Second-{max(0, math.floor(lease.remaining() / timedelta(seconds=1)))}"


def prefers_json(request: HttpRequest) -> bool:
    """Tell whether the client would rather read JSON than a page."""
    if "Accept" not in request.headers or request.headers["Accept"].strip() == "*/*":
        return request.content_type == "application/json"
    preferred = request.get_preferred_type([PAGE, PROBLEM, "application/json"])
    return preferred is not None and preferred != PAGE


def retry_after(lock: LockFacts) -> int:
    """Return in how many seconds, at least one, the lock can be taken over."""
    return max(1, math.ceil((lock.until - locking.now()) / timedelta(seconds=1)))
