"""Class-based views that lock the object they edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import router, transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import cached_property

from lock_tokens import batches, locking, verdicts
from lock_tokens.exceptions import AlreadyLockedError, LockTokensError
from lock_tokens.managers import written
from lock_tokens.responses import finish, refusal, tell
from lock_tokens.sessions import lock_for_session, session_key_of
from lock_tokens.targets import Target, target_of
from lock_tokens.tokens import RequestTokens
from lock_tokens.verdicts import Case

if TYPE_CHECKING:
    from django.views.generic import UpdateView

    Base = UpdateView[Any, Any]
else:
    Base = object


class LocksObjectMixin(Base):
    """For ``UpdateView``, ``DeleteView`` and their kin; name it before them.

    A GET takes the lock for the session, or answers 423 when somebody else has it. A POST needs
    the valid token: that of the header or of ``{% lock_token_field object %}`` if it brings one,
    else that of the session; what it writes and the release of the lock are one transaction. A
    refused form is shown again with what was typed. A POST that does not end in a redirect keeps
    the lock. The model need not be enforced.
    """

    # Seconds; None is the timeout in force for the model.
    lock_timeout: int | None = None

    def get_object(self, queryset: QuerySet[Any] | None = None) -> Any:
        """Read the object where it is written: a replica may have an old version of it."""
        queryset = self.get_queryset() if queryset is None else queryset
        obj = super().get_object(written(queryset))
        using = router.db_for_write(type(obj), instance=obj)
        return obj if obj._state.db == using else super().get_object(queryset.using(using))

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method == "GET":
            try:
                lock_for_session(
                    self.get_object(), request.session, force_new=True, timeout=self.lock_timeout
                )
            except AlreadyLockedError as error:
                return refusal(request, error)
        # Reads the object again: now nobody else changes it.
        return super().get(request, *args, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        obj = self.get_object()
        target = target_of(obj)
        try:
            with transaction.atomic(using=target.using):
                token = self._require_token(target)
                response = super().post(request, *args, **kwargs)
                done = 300 <= response.status_code < 400
                if done:
                    # Finds none when the view deleted the object, and the lock went with it.
                    locking.release(target, token)
        except LockTokensError as error:
            return self.refused(obj, error)
        if done:
            # Not before the release is committed: until then the lock may have to be kept.
            self._forget(target, token)
        return response

    @cached_property
    def _tokens(self) -> RequestTokens:
        return RequestTokens(self.request)

    def _require_token(self, target: Target) -> str:
        """Hold the lock's row for this transaction and return its token, or raise."""
        lock = locking.hold(target)
        tokens = self._tokens.presented_for(target)
        if lock is None or not verdicts.allows(lock, tokens):
            known = self._tokens.authenticated
            raise verdicts.refusals([Case(target, lock, tokens)], authenticated=known)[0]
        if verdicts.wants_renewal(lock, locking.now()):
            batches.renew({target: lock})
        return lock.token

    def _forget(self, target: Target, token: str) -> None:
        name = session_key_of(target)
        if self.request.session.get(name) == token:
            del self.request.session[name]

    def refused(self, obj: Model, error: LockTokensError) -> HttpResponse:
        """Answer a POST that ``error`` stopped: its form again, with what was typed."""
        self.object = obj
        form = self.get_form()
        form.add_error(None, tell(self.request, error))
        context = self.get_context_data(form=form, lock_error=error)
        response = self.render_to_response(context, status=error.status)
        finish(response, error)
        return response
