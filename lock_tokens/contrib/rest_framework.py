"""Django REST framework: refusals become its exceptions, and a resource gets a lock of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.db import router
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponseBase
from django.utils.translation import gettext as _
from rest_framework import serializers, status, views
from rest_framework.decorators import action
from rest_framework.exceptions import APIException
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response

from lock_tokens import locking, settings
from lock_tokens.enforcement.context import in_view
from lock_tokens.exceptions import LockRequired, LockTokensError, UnlockForbiddenError
from lock_tokens.managers import written
from lock_tokens.responses import (
    PROBLEM,
    finish,
    problem_of,
    status_of,
    timeout_header,
)
from lock_tokens.targets import Target, target_of
from lock_tokens.tokens import (
    Presented,
    RequestTokens,
    Tokens,
    checked,
    header_tokens,
    parsed_tokens,
)

if TYPE_CHECKING:
    from rest_framework.viewsets import GenericViewSet

    Base = GenericViewSet[Any]
else:
    Base = object

LOCK_ACTIONS = frozenset({"lock", "take_lock", "renew_lock", "release_lock"})


class LockRefused(APIException):
    """An error of django-lock-tokens, as Django REST framework knows errors.

    ``error`` is the error itself and ``problem`` what may be told of it, as a dict (RFC 9457);
    ``detail`` is the text of it alone, as a handler expects it.
    """

    status_code: int = status.HTTP_403_FORBIDDEN
    default_code = "refused"

    def __init__(self, error: LockTokensError, request: HttpRequest) -> None:
        self.error = error
        self.problem = problem_of(request, error)
        super().__init__(self.problem["detail"], code=error.title.lower().replace(" ", "_"))
        self.status_code = error.status


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Answer the refusals of django-lock-tokens, and leave the rest to REST framework's handler.

    For ``REST_FRAMEWORK["EXCEPTION_HANDLER"]``, or to be called by a handler of the project's own.
    """
    request = context["request"]
    refused = LockRefused(exc, request) if isinstance(exc, LockTokensError) else exc
    response = views.exception_handler(refused, context)
    if response is not None and isinstance(refused, LockRefused):
        response.data = refused.problem
        if _answers_json(request):
            response.content_type = PROBLEM
        finish(response, refused.error)
    return response


def _answers_json(request: Request) -> bool:
    """Tell whether the client gets plain JSON, for which problems have a media type."""
    renderer = getattr(request, "accepted_renderer", None)
    return renderer is not None and renderer.media_type == "application/json"


class ViewTokens(RequestTokens):
    """The tokens of a request to a view that parses forms of every method, as Django does not."""

    def __init__(self, request: HttpRequest, view: views.APIView) -> None:
        super().__init__(request)
        self.view = view

    def presented_for(self, target: Target) -> Tokens:
        fields = parsed_tokens(self.request, self.view.request)
        if not fields:
            return super().presented_for(target)
        tokens = checked([*header_tokens(self.request), *(token for token in fields if token)])
        return Tokens(map(Presented, tokens))


class LockableViewSetMixin(Base):
    """Gives the resource of a ``GenericViewSet`` its lock, at ``<resource>/lock/``.

    Name it before the viewset class. GET tells the status of the lock, POST takes it, PATCH renews
    and DELETE releases it with the token in the header. Refusals, of these and of writes of the
    resource, are ``LockRefused`` to any exception handler. Who may PATCH the resource may lock it.
    """

    @action(detail=True, url_path="lock", url_name="lock")
    def lock(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """The lock of this object. POST takes it; PATCH renews and DELETE releases it."""
        lock = locking.read(self._target(), with_holder=True)
        return Response(status_of(request, lock))

    @lock.mapping.post
    def take_lock(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        target = self._target()
        user = request.user
        # An authenticated user need not be one of the database, which is all that can be stored.
        by = user.pk if isinstance(user, get_user_model()) else None
        lock = locking.acquire(target, by=by)
        try:
            # Again: the object may have gone, or have become another, before its lock was held.
            if self._target() != target:
                raise Http404
        except BaseException:
            locking.release(target, lock.token)
            raise
        return self._lease(lock.token, lock, status.HTTP_201_CREATED)

    @lock.mapping.patch
    def renew_lock(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        target = self._target()
        token = self._token(target)
        return self._lease(token, locking.renew(target, token))

    @lock.mapping.delete
    def release_lock(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        target = self._target()
        if not locking.release(target, self._token(target)):
            raise UnlockForbiddenError(model_label=target.label, pk=target.pk)
        return Response(status=status.HTTP_204_NO_CONTENT)

    # Where objects are read; None is where the queryset says, or else where they are written.
    _home: str | None = None
    _reads_object = False

    def get_object(self) -> Any:
        """Read the object where it is written: a replica may have an old version of it."""
        self._reads_object = True
        try:
            obj = super().get_object()
            home = router.db_for_write(type(obj), instance=obj)
            if obj._state.db != home:
                self._home = home
                obj = super().get_object()
        finally:
            self._reads_object, self._home = False, None
        return obj

    def filter_queryset(self, queryset: QuerySet[Any]) -> Any:
        queryset = super().filter_queryset(queryset)
        if self._home:
            return queryset.using(self._home)
        return written(queryset) if self._reads_object else queryset

    def _target(self) -> Target:
        with self._asking_as_resource(self.request):
            obj = self.get_object()
        try:
            return target_of(obj)
        except ValueError as error:
            # A key that is too long to be locked.
            raise Http404(str(error)) from None

    def _token(self, target: Target) -> str:
        """Return the token of the header; of several, the valid one."""
        tokens = header_tokens(self.request)
        if not tokens:
            header = settings.current.TOKEN_HEADER
            message = _("The token of the lock is missing: send it in the header %s.") % header
            raise LockRequired(message, model_label=target.label, pk=target.pk)
        return tokens[0] if len(tokens) == 1 else self._valid(target, tokens)

    def _valid(self, target: Target, tokens: Sequence[str]) -> str:
        lock = locking.read(target)
        return lock.token if lock and lock.matches(tokens) else tokens[0]

    def _lease(self, token: str, lease: locking.Lease, code: int = 200) -> Response:
        headers = {"Timeout": timeout_header(lease)}
        return Response(lease.serialize(token), status=code, headers=headers)

    @property
    def _is_at_lock(self) -> bool:
        return not LOCK_ACTIONS.isdisjoint((getattr(self, "action_map", None) or {}).values())

    @contextmanager
    def _asking_as_resource(self, request: Request) -> Iterator[None]:
        """Let permissions and querysets decide as for a GET or PATCH of the resource itself.

        As a POST, taking a lock would be asked for the permission to add.
        """
        before = request.method, self.action
        if request.method in SAFE_METHODS:
            request.method, self.action = "GET", "retrieve"
        else:
            request.method, self.action = "PATCH", "partial_update"
        try:
            yield
        finally:
            request.method, self.action = before

    def check_permissions(self, request: Request) -> None:
        if not self._is_at_lock or request.method == "OPTIONS":
            return super().check_permissions(request)
        with self._asking_as_resource(request):
            return super().check_permissions(request)

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        if self._is_at_lock:
            # Its forms and metadata have no fields.
            return serializers.Serializer(*args, **kwargs)
        return super().get_serializer(*args, **kwargs)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        with in_view(ViewTokens(request, self)):
            return super().dispatch(request, *args, **kwargs)

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        response = super().finalize_response(request, response, *args, **kwargs)
        if self._is_at_lock:
            response["Cache-Control"] = "no-store"
        return response

    def get_exception_handler(self) -> Any:
        handler = super().get_exception_handler()
        return exception_handler if handler is views.exception_handler else handler

    def handle_exception(self, exc: Exception) -> Response:
        if not isinstance(exc, LockTokensError):
            return super().handle_exception(exc)
        refused = LockRefused(exc, self.request)
        views.set_rollback()
        response = super().handle_exception(refused)
        finish(response, exc)
        return response

    def raise_uncaught_exception(self, exc: Exception) -> Any:
        # Where the project's handler knows no answer, the middleware has one for the error itself.
        super().raise_uncaught_exception(exc.error if isinstance(exc, LockRefused) else exc)
