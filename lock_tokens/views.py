"""The REST API: lock an object, ask about its lock, renew and release it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.contrib.admin.utils import unquote
from django.core.exceptions import BadRequest, PermissionDenied, ValidationError
from django.db import DataError
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.utils.decorators import method_decorator
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.generic import View

from lock_tokens import locking, settings
from lock_tokens.decorators import get_object_or_404
from lock_tokens.exceptions import AlreadyLockedError, InvalidToken
from lock_tokens.permissions import can_see_object, is_lockable
from lock_tokens.responses import problem, refusal_as_json, status_of, timeout_header
from lock_tokens.targets import Target, target_of
from lock_tokens.tokens import header_tokens

# What fields and databases raise for text that is no key of theirs.
NOT_A_KEY = (ArithmeticError, DataError, RecursionError, TypeError, ValidationError, ValueError)
MAX_DIGITS = 1000


class LockTokenBaseView(View):
    """Finds the object that the URL names, for those who may lock it."""

    # The CSRF check is made in dispatch, where the setting is read.
    @method_decorator(csrf_exempt)
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        handle: Callable[..., HttpResponseBase] = self._answer
        if not settings.current.API_CSRF_EXEMPT:
            handle = csrf_protect(handle)
        response = handle(request, *args, **kwargs)
        response["Cache-Control"] = "no-store"
        # On every answer: were it only on those that looked at the user, its absence would tell
        # a hidden object from none.
        patch_vary_headers(response, ["Cookie"])
        return response

    def _answer(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return super().dispatch(request, *args, **kwargs)
        except Http404 as error:
            return problem(404, _("Not found"), str(error))
        except BadRequest as error:
            return problem(400, _("Bad request"), str(error))
        except PermissionDenied as error:
            return problem(403, _("Forbidden"), str(error))

    def get_target(self, action: str) -> Target:
        """Return the target of the object in the URL; 404 or 403 unless it may be locked."""
        obj = self._get_object()
        allowed = import_string(settings.current.API_PERMISSION)
        if not allowed(self.request, action, obj):
            if can_see_object(self.request, obj):
                raise PermissionDenied(_("You may not lock this object."))
            raise Http404(_("There is no such object."))
        try:
            return target_of(obj)
        except ValueError as error:
            raise Http404(str(error)) from None

    def _get_object(self) -> Model:
        try:
            model = apps.get_model(self.kwargs["app_label"], self.kwargs["model"])
        except LookupError:
            raise Http404(_("There is no such object.")) from None
        if model._meta.swapped or not is_lockable(model):
            raise Http404(_("There is no such object."))
        try:
            return get_object_or_404(model, _parse_key(model, unquote(self.kwargs["object_id"])))
        except (Http404, *NOT_A_KEY):
            # In the very words that one gets who may not see the object.
            raise Http404(_("There is no such object.")) from None

    def lease_response(self, token: str, lease: locking.Lease, status: int = 200) -> HttpResponse:
        """Return the answer to the holder of ``token``."""
        response = JsonResponse(lease.serialize(token), status=status)
        response["Timeout"] = timeout_header(lease)
        return response

    def get_held(self, target: Target, tokens: Sequence[str]) -> locking.Lock:
        """Return the lock on ``target``; 404 without one, 403 unless ``tokens`` has its token."""
        lock = locking.read(target)
        if lock is None or not lock.matches(tokens):
            raise self._not_held(lock)
        return lock

    def _not_held(self, lock: locking.Lock | None) -> Exception:
        if lock is None:
            return Http404(_("This object is not locked."))
        return PermissionDenied(_("This is not the token of the lock on this object."))

    def get_lease(self, tokens: Sequence[str]) -> HttpResponse:
        """Answer the holder's question how long the lock lasts."""
        lock = self.get_held(self.get_target("read"), tokens)
        return self.lease_response(lock.token, lock)

    def renew(self, tokens: Sequence[str]) -> HttpResponse:
        """Renew the lock for its holder."""
        target = self.get_target("renew")
        token = self._candidate(target, tokens)
        try:
            lease = locking.renew(target, token)
        except InvalidToken:
            raise self._not_held(locking.read(target)) from None
        return self.lease_response(token, lease)

    def release(self, tokens: Sequence[str]) -> HttpResponse:
        """Release the lock for its holder."""
        target = self.get_target("release")
        if not locking.release(target, self._candidate(target, tokens)):
            raise self._not_held(locking.read(target))
        return HttpResponse(status=204)

    def _candidate(self, target: Target, tokens: Sequence[str]) -> str:
        """Return the only token, or the valid one of many, for a statement that will judge it."""
        return tokens[0] if len(tokens) == 1 else self.get_held(target, tokens).token


class LockTokenListView(LockTokenBaseView):
    """The lock of an object; its holder may bring the token in the header."""

    def post(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        target = self.get_target("lock")
        user = getattr(request, "user", None)
        try:
            lock = locking.acquire(target, by=user.pk if user is not None else None)
        except AlreadyLockedError as error:
            return refusal_as_json(request, error, settings.current.API_LOCKED_STATUS)
        return self.lease_response(lock.token, lock, status=201)

    def get(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        tokens = header_tokens(request)
        return self.get_lease(tokens) if tokens else self._status()

    def patch(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        return self.renew(header_tokens(request))

    def delete(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        return self.release(header_tokens(request))

    def _status(self) -> HttpResponse:
        lock = locking.read(self.get_target("status"), with_holder=True)
        return JsonResponse(status_of(self.request, lock))


class LockTokenDetailView(LockTokenBaseView):
    """The lock of an object, for the holder whose token is in the URL."""

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        # Django logs the path of a refused request, and a token does not belong in a log.
        request.path = request.path.removesuffix(f"{kwargs['token']}/") + "***/"

    def get(self, request: HttpRequest, token: str, **kwargs: str) -> HttpResponse:
        return self.get_lease([token])

    def patch(self, request: HttpRequest, token: str, **kwargs: str) -> HttpResponse:
        return self.renew([token])

    def delete(self, request: HttpRequest, token: str, **kwargs: str) -> HttpResponse:
        return self.release([token])


def _parse_key(model: type[Model], text: str) -> Any:
    """Return the key that ``text`` spells; an error if no row of ``model`` can have it."""
    pk = model._meta.pk
    key = pk.to_python(text)
    parts = tuple(key) if len(model._meta.pk_fields) > 1 else (key,)
    if not all(map(_can_be_key, parts)):
        raise ValueError("No row has such a key.")
    return parts if len(parts) > 1 else key


def _can_be_key(value: object) -> bool:
    """Keep from the databases what they would choke on, which aborts the whole transaction."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Decimal):
        return max(len(value.as_tuple().digits), abs(value.adjusted())) <= MAX_DIGITS
    if isinstance(value, datetime):
        # A stored moment has a zone, without one Django would warn and guess; and next to the
        # years 1 and 9999 it overflows in another zone.
        aware = timezone.is_aware(value) and 1 < value.year < 9999
        return aware or not django_settings.USE_TZ
    if isinstance(value, str):
        return "\x00" not in value
    return value is not None
