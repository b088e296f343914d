"""Taking a lock over from whoever has it: who may, why, and leaving a record of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from django import forms
from django.apps import apps
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from lock_tokens import locking
from lock_tokens.pages import FREE, LOCKED, PageLock, look
from lock_tokens.sessions import take_for_session
from lock_tokens.targets import Target

logger = logging.getLogger("lock_tokens")

BREAK_LOCK = "lock_tokens.break_lock"
ACTION = "take_over"


class TakeOverForm(forms.Form):
    """Asks why, and remembers which lock it is about: another may have followed it since."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        help_text=gettext_lazy("It is logged."),
        max_length=200,
        # The class that makes the admin's text fields as wide as they are.
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )
    lock = forms.IntegerField(widget=forms.HiddenInput)


def may_take_over(page: PageLock) -> bool:
    """Tell whether the user may take over the lock of ``page``, that of somebody else."""
    user = getattr(page.request, "user", None)
    if page.state != LOCKED or user is None or not user.is_authenticated:
        return False
    return page.is_of_user or bool(user.has_perm(BREAK_LOCK))


def take_over_link(page: PageLock, url: str, *, typed: bool = False) -> str:
    """Return the link to ``url``, where the lock of ``page`` is taken over, if the user may.

    From a page with something ``typed`` it opens a tab of its own, so that nothing is lost.
    """
    if not may_take_over(page):
        return ""
    target = SafeString(' target="_blank"' if typed else "")
    return format_html('<a href="{}"{}>{}</a>', url, target, _("Take it over…"))


def take_over(
    request: HttpRequest, target: Target, shown: int, reason: str, timeout: int | None = None
) -> bool:
    """Break the lock with id ``shown`` for ``reason``, and take a new one for the session.

    Returns ``False``, and does nothing, when another lock has followed that one. Raises
    ``PermissionDenied`` unless the user may. Statements: up to 5.
    """
    with transaction.atomic(using=target.using):
        page = PageLock(request, target, locking.hold(target))
        if page.state == LOCKED and getattr(page.lock, "id", None) != shown:
            return False
        if page.state == LOCKED:
            if not may_take_over(page):
                raise PermissionDenied(_("You may not take this lock over."))
            locking.break_lock(target, by=request.user, reason=reason)
        take_for_session(target, request.session, force_new=True, timeout=timeout)
    return True


def answer(
    request: HttpRequest,
    target: Target,
    template: str,
    page_url: str,
    *,
    context: dict[str, Any],
    timeout: int | None = None,
    taken: Callable[[str], None] = lambda reason: None,
) -> HttpResponse:
    """Ask for the reason, or take the lock over and go to ``page_url``.

    ``taken`` is called with the reason once it is done.
    """
    page = look(request, target)
    if page.state == FREE:
        return HttpResponseRedirect(page_url)
    if not may_take_over(page):
        raise PermissionDenied(_("You may not take this lock over."))
    form = TakeOverForm(request.POST or None, initial={"lock": getattr(page.lock, "id", None)})
    if request.method == "POST" and form.is_valid():
        reason = form.cleaned_data["reason"]
        if take_over(request, target, form.cleaned_data["lock"], reason, timeout):
            taken(reason)
            return HttpResponseRedirect(page_url)
        form = TakeOverForm(initial={"lock": getattr(look(request, target).lock, "id", None)})
    explanation = page.tell(html=True)
    values = {**context, "form": form, "page_url": page_url, "explanation": explanation}
    return TemplateResponse(request, template, values, headers={"Cache-Control": "no-store"})


def note(reason: str) -> str:
    """Return what the log of the admin says of a lock that was taken over for ``reason``."""
    return _("Took over the lock: %(reason)s") % {"reason": reason}


def log(request: HttpRequest, obj: Model, reason: str) -> None:
    """Leave an entry in the log of the admin, if there is an admin."""
    if not apps.is_installed("django.contrib.admin"):
        return
    from django.contrib.admin.models import CHANGE, LogEntry

    user: Any = request.user
    LogEntry.objects.log_actions(user.pk, [obj], CHANGE, note(reason), single_object=True)
