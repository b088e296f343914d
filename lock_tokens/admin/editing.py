"""The change form and the delete page of the admin, under the lock of their object.

What is decided about a lock is kept on the request, never on the ModelAdmin, which all requests
share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db import router
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from lock_tokens import locking, pages, settings, takeover
from lock_tokens.admin.checks import check_editing
from lock_tokens.admin.decision import (
    Editing,
    LockedOut,
    NotHeld,
    begin,
    editing_of,
    is_locked_out,
    lock_target,
)
from lock_tokens.admin.notices import (
    RefusedForm,
    add_conflict,
    add_token_field,
    explain,
    page_media,
)
from lock_tokens.enforcement.transactions import whole
from lock_tokens.exceptions import LockTokensError
from lock_tokens.pages import HELD, PageLock, is_of_script
from lock_tokens.responses import tell_all
from lock_tokens.takeover import take_over_link
from lock_tokens.targets import Target
from lock_tokens.tokens import RequestTokens

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Any]
else:
    Base = object

READ_ONLY = ("GET", "HEAD")


class EditingMixin(Base):
    """Locks the object of a change form or delete page for whoever has it open."""

    # Seconds; None is the timeout in force for the model.
    lock_timeout: int | None = None
    # Seconds without a key or a click after which an open page lets its lock run out; None: never.
    lock_idle: int | None = pages.IDLE

    def check(self, **kwargs: Any) -> list[Any]:
        return [*super().check(**kwargs), *check_editing(self)]

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.lock_view)
        return [path("<path:object_id>/lock/", view, name=self._lock_name()), *super().get_urls()]

    def _lock_name(self) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_lock"

    def _url(self, name: str, obj: Model) -> str:
        current = self.admin_site.name
        return reverse(f"admin:{name}", args=[quote(obj.pk)], current_app=current)

    def _lock_url(self, obj: Model) -> str:
        return self._url(self._lock_name(), obj)

    def _change_url(self, obj: Model) -> str:
        return self._url(f"{self.opts.app_label}_{self.opts.model_name}_change", obj)

    # Deciding.

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        """Read the object for a view that edits it after its lock was taken."""
        obj = super().get_object(request, object_id, from_field)
        editing = editing_of(request)
        if obj is None or editing is None or not self._may(editing, obj):
            return obj
        using = editing.enter(obj, self.lock_timeout)
        if editing.deletes and editing.locked_out:
            raise LockedOut
        return self.get_queryset(request).using(using).filter(pk=obj.pk).first() if using else obj

    def _may(self, editing: Editing, obj: Model) -> bool:
        """Tell whether the user, whoever has the lock, may do what the view is for."""
        if editing.deletes:
            return self.has_delete_permission(editing.request, obj)
        return self.has_change_permission(editing.request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return super().has_change_permission(request, obj) and not is_locked_out(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return super().has_delete_permission(request, obj) and not is_locked_out(request, obj)

    # The change form.

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        editing = begin(request)
        arguments = (request, object_id, form_url, extra_context)
        if not editing.is_post:
            return super().changeform_view(*arguments)
        try:
            with editing.transaction:
                editing.transaction.enter_context(self._atomic())
                response = super().changeform_view(*arguments)
                token = editing.end(response, self.lock_timeout)
                if "_saveasnew" in request.POST and not editing.shown:
                    self._leave_original(request, object_id)
        except NotHeld as refused:
            editing.refuse(refused.error, self.lock_timeout)
        except LockTokensError as error:
            # Of another row than the one that the form is for, or in code of the project's.
            editing.error, editing.token = error, None
        else:
            editing.remember(token)
            return response
        return self._show_again(editing, *arguments)

    def _atomic(self) -> Any:
        return whole(router.db_for_write(self.model))

    def _show_again(self, editing: Editing, *arguments: Any) -> Any:
        """Show the form with what was typed and why it was not saved."""
        with editing.transaction:
            editing.transaction.enter_context(self._atomic())
            response = super().changeform_view(*arguments)
            if not editing.shown:
                # A get_form() that does not call ours: what it saved is rolled back.
                raise PermissionDenied(str(editing.error))
        if editing.page is not None and editing.page.state != HELD:
            response.status_code = 403
        return response

    def _leave_original(self, request: HttpRequest, object_id: str | None) -> None:
        """Release the lock of an object that was saved as a new one: its page is left."""
        original = super().get_object(request, unquote(object_id)) if object_id else None
        if original is not None:
            target = lock_target(original)
            for presented in RequestTokens(request).presented_for(target):
                locking.release(target, presented.token)

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        editing = editing_of(request)
        if editing is None or editing.error is None:
            return form
        return type(form.__name__, (RefusedForm, form), {"refusal": explain(editing)})

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> Any:
        if editing := editing_of(request):
            editing.shown = True
            if obj is not None:
                editing.keep(self.lock_timeout)
            if editing.page is not None and obj is not None:
                self._show_lock(editing, editing.page, context, obj)
        return super().render_change_form(request, context, add, change, form_url, obj)

    def _show_lock(
        self, editing: Editing, page: PageLock, context: dict[str, Any], obj: Model
    ) -> None:
        """Add to the page what it has to say of the lock, its token and its script."""
        form = context["adminform"].form
        # Sent without the valid token: it stays stale, and is shown beside what is stored.
        typed = editing.error is not None and editing.token is None
        if page.token is not None or typed:
            add_token_field(context["adminform"], _sent(editing) if typed else page.token or "")
        if typed:
            formsets = [inline.formset for inline in context["inline_admin_formsets"]]
            add_conflict(form, formsets, page, self._lock_url(obj))
        elif page.state != HELD:
            self.message_user(editing.request, self._locked(page, obj), messages.WARNING)
        context["media"] += self._script(page, obj, typed=typed and page.state != HELD)

    def _locked(self, page: PageLock, obj: Model) -> SafeString:
        """Return the message for somebody who finds the object locked."""
        link = take_over_link(page, self._lock_url(obj))
        return format_html("{} {}", page.tell(html=True), link)

    def _script(self, page: PageLock, obj: Model, **options: Any) -> forms.Media:
        attributes = page.attributes(self._lock_url(obj), idle=self.lock_idle, **options)
        return page_media(attributes)

    # The delete page.

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> Any:
        editing = begin(request, deletes=True)
        try:
            with editing.transaction:
                if editing.is_post:
                    editing.transaction.enter_context(self._atomic())
                response = super().delete_view(request, object_id, extra_context)
                token = editing.end(response, self.lock_timeout)
        except LockedOut:
            return HttpResponseRedirect(self._change_path(object_id))
        except NotHeld as refused:
            editing.refuse(refused.error, self.lock_timeout)
            if editing.page is not None and editing.page.state != HELD:
                raise PermissionDenied(editing.page.tell()) from None
            return self._ask_again(request, refused.error)
        except LockTokensError as error:
            return self._ask_again(request, error)
        editing.remember(token)
        return response

    def _change_path(self, object_id: str) -> str:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
        return reverse(name, args=[object_id], current_app=self.admin_site.name)

    def _ask_again(self, request: HttpRequest, error: LockTokensError) -> HttpResponse:
        self.message_user(request, tell_all(request, error), messages.ERROR)
        return HttpResponseRedirect(request.get_full_path())

    def render_delete_form(self, request: HttpRequest, context: dict[str, Any]) -> Any:
        response = super().render_delete_form(request, context)
        editing = editing_of(request)
        if editing and editing.page and isinstance(response, TemplateResponse):
            # The template has no place for a field, so the script adds it.
            attributes = editing.page.attributes(
                self._lock_url(context["object"]), idle=self.lock_idle
            )
            media = page_media({**attributes, "data-fill": "#content form"})
            response.context_data["media"] += media  # type: ignore[index]
        return response

    # What the page's script asks, and taking over.

    def lock_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Answer the page's script, or show the page on which a lock is taken over."""
        obj = super().get_object(request, unquote(object_id))
        if obj is None:
            raise Http404(_("There is no such object."))
        # Of the delete page, too.
        may_write = self.has_change_permission(request, obj) or self.has_delete_permission(
            request, obj
        )
        may_look = request.method in READ_ONLY and self.has_view_permission(request, obj)
        if not (may_write or may_look):
            raise PermissionDenied
        target = lock_target(obj)
        if request.POST.get("action") != takeover.ACTION and is_of_script(request):
            return pages.answer(request, target)
        return self._take_over(request, obj, target)

    def _take_over(self, request: HttpRequest, obj: Model, target: Target) -> HttpResponse:
        if not self.has_change_permission(request, obj):
            raise PermissionDenied
        context: dict[str, Any] = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": obj,
            "title": _("Take the lock over"),
            "subtitle": str(obj),
            "media": self.media + page_media(),
        }
        request.current_app = self.admin_site.name

        def taken(reason: str) -> None:
            self.log_change(request, obj, takeover.note(reason))

        return takeover.answer(
            request,
            target,
            "lock_tokens/admin/take_over.html",
            self._change_url(obj),
            context=context,
            timeout=self.lock_timeout,
            taken=taken,
        )


def _sent(editing: Editing) -> str:
    """Return the token that the form came with: a stale one stays stale."""
    return editing.request.POST.get(settings.current.TOKEN_FIELD, "")
