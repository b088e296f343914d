"""A request brings tokens into the context; a refusal becomes its response."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from lock_tokens.checks import check_settings
from lock_tokens.enforcement import context
from lock_tokens.exceptions import LockTokensError
from lock_tokens.responses import refusal


class LockTokenMiddleware:
    """Presents the tokens of header, form field and session; answers uncaught refusals.

    Place it after the session and authentication middleware. Sync and async.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        # A server runs no system checks; with wrong settings it must not run unprotected.
        errors = [str(message.msg) for message in check_settings() if message.is_serious()]
        if errors:
            raise ImproperlyConfigured(" ".join(errors))
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self.__acall__(request)
        with context.in_request(request):
            return cast(HttpResponseBase, self.get_response(request))

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        with context.in_request(request):
            return cast(HttpResponseBase, await self.get_response(request))

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer an error of this package that a view let through."""
        if isinstance(exception, LockTokensError):
            return refusal(request, exception)
        return None
