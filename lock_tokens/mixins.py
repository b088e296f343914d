"""Class-based views that lock the object they edit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.db import router, transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_cache_control
from django.utils.http import escape_leading_slashes
from django.utils.translation import gettext as _

from lock_tokens import conflicts, locking, pages, takeover
from lock_tokens.banner import Banner
from lock_tokens.exceptions import AlreadyLockedError, InvalidToken, LockTokensError
from lock_tokens.managers import written
from lock_tokens.pages import HELD, PageLock
from lock_tokens.responses import finish, refusal, tell_all
from lock_tokens.sessions import forget
from lock_tokens.targets import Target, target_of
from lock_tokens.tokens import keep_from_old_form

if TYPE_CHECKING:
    from django.views.generic import UpdateView

    Base = UpdateView[Any, Any]
else:
    Base = object

# The page's own URL with this parameter is where its script asks, and where a lock is taken over.
PARAMETER = "lock_tokens"


class LocksObjectMixin(Base):
    """For ``UpdateView``, ``DeleteView`` and their kin; name it before them.

    A GET takes the lock for the session, or answers 423 when somebody else has it. A POST needs
    the valid token: that of the header or of ``{% lock_token_field object %}`` if it brings one,
    else that of the session; what it writes and the release of the lock are one transaction. So
    does a DELETE. A refused form is shown again with what was typed, what is stored, and a way to
    save after looking. A POST that does not end in a redirect keeps the lock. The model need not
    be enforced.

    ``{% include "lock_tokens/banner.html" %}`` in the form of the template keeps the lock while
    the page is open; what it shows is ``lock_page`` in the context.
    """

    # Seconds; None is the timeout in force for the model.
    lock_timeout: int | None = None
    # Seconds without a key or a click after which an open page lets its lock run out; None: never.
    lock_idle: int | None = pages.IDLE
    take_over_template_name = "lock_tokens/take_over.html"

    # How the page that is answered stands to the lock.
    _page: PageLock | None = None
    # The token under which this request writes.
    _token: str | None = None

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        # Only where there is one: whatever has the name of a method is offered to clients.
        if (delete := getattr(self, "delete", None)) is not None:
            self.delete = partial(self._write, delete)

    def get_object(self, queryset: QuerySet[Any] | None = None) -> Any:
        """Read the object where it is written: a replica may have an old version of it."""
        queryset = self.get_queryset() if queryset is None else queryset
        obj = super().get_object(written(queryset))
        using = router.db_for_write(type(obj), instance=obj)
        return obj if obj._state.db == using else super().get_object(queryset.using(using))

    def get_locked_object(self, obj: Any) -> Model:
        """Return the object whose lock protects ``obj``: override it for a model with ``VIA``."""
        return cast(Model, obj)

    def _target_of(self, obj: Any) -> Target:
        return target_of(self.get_locked_object(obj))

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if PARAMETER in request.GET:
            return self._answer_page()
        if request.method == "GET":
            obj = self.get_object()
            self._page = self._open(self._target_of(obj))
            if self._page.state != HELD:
                return self._locked_out(obj, self._page)
        # Reads the object again: now nobody else changes it.
        response = super().get(request, *args, **kwargs)
        # Its form has a token that is nobody else's business.
        patch_cache_control(response, private=True)
        return response

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if PARAMETER in request.GET:
            return self._answer_page()
        return self._write(super().post, request, *args, **kwargs)

    # What the page's script asks, and taking over.

    def _answer_page(self) -> HttpResponse:
        request, obj = self.request, self.get_object()
        target = self._target_of(obj)
        if request.POST.get("action") != takeover.ACTION and pages.is_of_script(request):
            return pages.answer(request, target)
        return takeover.answer(
            request,
            target,
            self.take_over_template_name,
            self._url(),
            context={"title": _("Take the lock over"), "object": obj},
            timeout=self.lock_timeout,
            taken=partial(takeover.log, request, obj),
        )

    def _url(self, **added: str) -> str:
        """Return the URL of the page, with parameters ``added``."""
        query = self.request.GET.copy()
        query.pop(PARAMETER, None)
        query.update(added)
        path = escape_leading_slashes(self.request.path)
        return f"{path}?{query.urlencode()}" if query else path

    # Opening.

    def _open(self, target: Target) -> PageLock:
        return pages.open_page(self.request, target, timeout=self.lock_timeout)

    def _locked_out(self, obj: Model, page: PageLock) -> HttpResponse:
        target = page.target
        error = AlreadyLockedError(model_label=target.label, pk=target.pk, lock=page.facts)
        return refusal(self.request, error, object=obj, lock_page=self._banner(page))

    def _banner(self, page: PageLock, refused: forms.BaseForm | None = None) -> Banner:
        return Banner(page, self._url(**{PARAMETER: ""}), self.lock_idle, refused)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add ``lock_page``, how the page stands to the lock, for ``lock_tokens/banner.html``."""
        if self._page is None and self._token is not None:
            self._page = self._renewed(self._target, self._token)
        if self._page is not None:
            kwargs.setdefault("lock_page", self._banner(self._page))
        return super().get_context_data(**kwargs)

    def _renewed(self, target: Target, token: str) -> PageLock | None:
        """Renew the lock for a page that is shown after a POST with the right token."""
        # The view may have removed the lock itself.
        with suppress(InvalidToken):
            lease = locking.renew(target, token, timeout=self.lock_timeout)
            return PageLock(self.request, target, lease, token)
        return None

    # Writing.

    def _write(
        self, handler: Callable[..., HttpResponse], request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Call ``handler``, that of the view, under the lock, and release it with what it wrote."""
        if self._token is not None:
            # The handler of one method has called that of another.
            return handler(request, *args, **kwargs)
        target = self._target = self._target_of(self.get_object())
        try:
            with transaction.atomic(using=target.using):
                token = self._token = pages.require_token(request, target)
                response = handler(request, *args, **kwargs)
                done = self._is_done(response)
                if done:
                    # Finds none when the view deleted the object, and the lock went with it.
                    locking.release(target, token)
        except LockTokensError as error:
            return self._refuse(target, error)
        if done:
            # Not before the release is committed: until then the lock may have to be kept.
            forget(request.session, target, token)
        return response

    def _is_done(self, response: HttpResponse) -> bool:
        first = 200 if self.request.method == "DELETE" else 300
        return first <= response.status_code < 400

    # Refusing.

    def _refuse(self, target: Target, error: LockTokensError) -> HttpResponse:
        """Answer once the transaction of what was refused has ended."""
        if self.request.method == "DELETE" or not hasattr(self, "get_form"):
            return refusal(self.request, error)
        if self._token is not None:
            # It was right: another object was refused.
            self._page = self._renewed(target, self._token)
        if self._page is None:
            self._token = None
            # The new lock comes before the reading of what will be shown beside what was typed.
            self._page = self._open(target)
            keep_from_old_form(self.request, self._page.token)
        return self.refused(self.get_object(), error)

    def refused(self, obj: Model, error: LockTokensError) -> HttpResponse:
        """Answer a POST that ``error`` stopped: its form again, with what was typed."""
        self.object = obj
        form = self.get_form()
        context = {"form": form, "lock_error": error}
        if self._token is None and self._page is not None:
            form.add_error(None, conflicts.explain(self._page))
            context["lock_page"] = self._banner(self._page, refused=form)
        else:
            form.add_error(None, tell_all(self.request, error))
        response = self.render_to_response(self.get_context_data(**context), status=error.status)
        finish(response, error)
        return response
