"""Views that lock the object they work on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

from asgiref.sync import sync_to_async
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db import DatabaseError, DataError, router, transaction
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponseBase

from lock_tokens.exceptions import AlreadyLockedError, UnlockForbiddenError
from lock_tokens.responses import refusal
from lock_tokens.sessions import get_session_key, lock_for_session, unlock_for_session
from lock_tokens.targets import target_of

View = Callable[..., Any]
GetObjectId = Callable[..., Any]


def locks_object(model: type[Model], get_object_id: GetObjectId) -> Callable[[View], View]:
    """Lock an object of ``model`` for the session before the view runs, and keep it locked.

    ``get_object_id(request, *args, **kwargs)`` returns its key. The view answers 404 when there
    is no such object, 423 when it is somebody else's. A lock that was taken for a view that then
    raises is released; one that the session held before is not. Sync and async views.
    """
    return _decorator(model, get_object_id, keep=True)


def holds_lock_on_object(model: type[Model], get_object_id: GetObjectId) -> Callable[[View], View]:
    """As ``locks_object``, but the lock is released when the view returns or raises."""
    return _decorator(model, get_object_id, keep=False)


class _SessionLock:
    """The lock of one request's session on the view's object."""

    def __init__(self, request: HttpRequest, obj: Model, keep: bool) -> None:
        self.request = request
        self.obj = obj
        self.keep = keep
        self.name = get_session_key(obj)
        before = request.session.get(self.name)
        # The view has not read the object yet, so a stale token may be replaced.
        lock_for_session(obj, request.session, force_new=True)
        self.taken_here = request.session[self.name] != before

    def leave(self, *, failed: bool) -> None:
        """Release the lock unless it is to stay."""
        if self.keep and not (failed and self.taken_here):
            return
        using = router.db_for_write(type(self.obj), instance=self.obj)
        if transaction.get_connection(using).needs_rollback:
            # No statement is possible any more, and the rollback takes the lock with it.
            self.request.session.pop(self.name, None)
            return
        try:
            unlock_for_session(self.obj, self.request.session)
        except (UnlockForbiddenError, ValueError):
            # The view released the lock itself, or deleted the object and the lock with it.
            self.request.session.pop(self.name, None)
        except DatabaseError:
            # An error of the view's has aborted the transaction on PostgreSQL, and its rollback
            # takes the lock; the view's is the one to show.
            if not (failed and transaction.get_connection(using).in_atomic_block):
                raise
            self.request.session.pop(self.name, None)


def _decorator(
    model: type[Model], get_object_id: GetObjectId, keep: bool
) -> Callable[[View], View]:
    def enter(request: HttpRequest, *args: Any, **kwargs: Any) -> _SessionLock:
        obj = get_object_or_404(model, get_object_id(request, *args, **kwargs))
        try:
            target_of(obj)
        except ValueError as error:
            # A key that is too long to be locked.
            raise Http404(str(error)) from None
        return _SessionLock(request, obj, keep)

    def decorator(view: View) -> View:
        @wraps(view)
        def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                lock = enter(request, *args, **kwargs)
            except AlreadyLockedError as error:
                return refusal(request, error)
            failed = True
            try:
                response: HttpResponseBase = view(request, *args, **kwargs)
                failed = False
            finally:
                lock.leave(failed=failed)
            return response

        @wraps(view)
        async def awrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                lock = await sync_to_async(enter)(request, *args, **kwargs)
            except AlreadyLockedError as error:
                return await sync_to_async(refusal)(request, error)
            failed = True
            try:
                answer: Awaitable[HttpResponseBase] = view(request, *args, **kwargs)
                response = await answer
                failed = False
            finally:
                await sync_to_async(lock.leave)(failed=failed)
            return response

        return awrapped if iscoroutinefunction(view) else wrapped

    return decorator


def get_object_or_404(model: type[Model], pk: Any) -> Model:
    """Return the object of ``model`` with key ``pk``; ``Http404`` for any key without one."""
    using = router.db_for_write(model)
    try:
        return model._default_manager.using(using).get(pk=pk)
    except (
        ObjectDoesNotExist,
        DataError,
        ValidationError,
        ValueError,
        TypeError,
        ArithmeticError,
    ):
        raise Http404(f"There is no {model._meta.label} with this key.") from None
