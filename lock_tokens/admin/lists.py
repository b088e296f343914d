"""Change lists and inlines: who has which row, and writes of rows that nobody opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass, replace
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.utils import model_ngettext
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.templatetags.static import static
from django.utils.html import format_html, strip_tags
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from lock_tokens.admin.formsets import RefusedRow, claiming_formset
from lock_tokens.admin.rows import (
    RowClaims,
    claims_of,
    lock_words,
    name_of,
    newly_protecting,
    newly_related,
    using_for,
)
from lock_tokens.exceptions import NAMED, LockTokensError, WriteRefused
from lock_tokens.responses import tell_all
from lock_tokens.statuses import FREE, LockStatus, lockable_target, read
from lock_tokens.targets import Target

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Any]
else:
    Base = object

COLUMN = "lock_status"
# Actions with these permissions alone are taken as reading only.
READING = {"view"}
# Up to so many rows are named in a condition; SQLite takes 32,766 parameters at most.
PINNED = 30_000


class ListMixin(Base):
    """Shows the locks in the change list, and lets nothing there or in inlines pass them by."""

    # The column.

    def get_list_display(self, request: HttpRequest) -> Any:
        display = super().get_list_display(request)
        return display if COLUMN in display else [*display, COLUMN]

    @admin.display(description=gettext_lazy("lock"))
    def lock_status(self, obj: Any) -> str | None:
        """Say who has ``obj`` locked; in a change list it is asked for all rows at once."""
        return LockColumn(None, [obj])(obj)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)
        if type(self).lock_status is ListMixin.lock_status:
            column: Any = LockColumn(request, changelist)
            changelist.list_display = [
                column if name == COLUMN else name for name in changelist.list_display
            ]
        return changelist

    # Actions.

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> Any:
        # Django has the location since 6.1.
        location = {} if action_location is None else {"action_location": action_location}
        actions = super().get_actions(request, **location)
        return {name: _claiming_action(action) for name, action in actions.items()}

    # Rows edited in the list.

    def get_changelist_formset(self, request: HttpRequest, **kwargs: Any) -> Any:
        return claiming_formset(super().get_changelist_formset(request, **kwargs), request)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        if request.method != "POST" or "_save" not in request.POST:
            return super().changelist_view(request, extra_context)
        try:
            response = self._save_rows(request, extra_context)
        except WriteRefused as error:
            response = self._save_rows(request, extra_context, refused=error)
        changelist = (getattr(response, "context_data", None) or {}).get("cl")
        if changelist is not None and getattr(changelist, "formset", None) is not None:
            _align(changelist)
            if refused := changelist.formset.refused:
                self.message_user(request, _rows_kept(refused), messages.ERROR)
        return response

    def _save_rows(
        self,
        request: HttpRequest,
        extra_context: dict[str, Any] | None,
        refused: WriteRefused | None = None,
    ) -> Any:
        with RowClaims(request, using_for(self.model)) as claims:
            claims.error = refused
            return super().changelist_view(request, extra_context)

    # Inlines.

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        arguments = (request, object_id, form_url, extra_context)
        if request.method != "POST":
            return super().changeform_view(*arguments)
        with RowClaims(request, using_for(self.model)):
            return super().changeform_view(*arguments)

    def get_formsets_with_inlines(self, request: HttpRequest, obj: Any = None) -> Iterator[Any]:
        for formset, inline in super().get_formsets_with_inlines(request, obj):
            yield claiming_formset(formset, request, parent=obj), inline

    # Other objects that protect what is saved.

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if claims := claims_of(request):
            claims.protect(newly_protecting(obj, claims.using))
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        if claims := claims_of(request):
            claims.protect(newly_related(form, claims.using))
        super().save_related(request, form, formsets, change)


class LockColumn:
    """The column of one page: asks for the locks of all of its rows when the first is shown."""

    __name__ = COLUMN
    short_description = gettext_lazy("lock")

    def __init__(self, request: HttpRequest | None, page: Any) -> None:
        self._request = request
        self._page = page

    def __call__(self, obj: Model) -> SafeString | None:
        target = lockable_target(obj)
        status = self._statuses.get(target, FREE) if target else FREE
        return _shown(status) if status.is_locked else None

    @cached_property
    def _statuses(self) -> dict[Target, LockStatus]:
        rows = getattr(self._page, "result_list", self._page)
        objects = {target: obj for obj in rows if (target := lockable_target(obj))}
        return read(self._request, objects) if objects else {}


def _shown(status: LockStatus) -> SafeString:
    until = status.until_as_time
    values = {"by": status.by, "until": strip_tags(until)}
    if status.mine:
        who, text = _("you"), _("Locked by you until %(until)s") % values
    elif status.by:
        who, text = status.by, _("Locked by %(by)s until %(until)s") % values
    else:
        who, text = "", _("Locked until %(until)s") % values
    # What is beside the icon says nothing that its text does not say.
    beside = _("{by} until {until}") if who else _("until {until}")
    return format_html(
        '<span class="lock-tokens-status"><img src="{}" alt="{}"> '
        '<span aria-hidden="true">{}</span></span>',
        static("lock_tokens/lock.svg"),
        text,
        format_html(beside, by=format_html("<bdi>{}</bdi>", who), until=until),
    )


# Actions -------------------------------------------------------------------------------------


def _claiming_action(action: Any) -> Any:
    """Return ``action``, an entry of ``get_actions``, with its function under claims."""
    if is_dataclass(action) and not isinstance(action, type):
        return replace(action, func=_claiming(action.func))  # type: ignore[attr-defined]
    function, *rest = action
    return (_claiming(function), *rest)


def _claiming(function: Callable[..., Any]) -> Callable[..., Any]:
    permissions = getattr(function, "allowed_permissions", None)
    if permissions and set(permissions) <= READING:
        return function

    # It has all that Django reads on the function.
    @wraps(function)
    def claiming(modeladmin: Any, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        try:
            return _run(function, modeladmin, request, queryset)
        except LockTokensError as error:
            text = _("Nothing was done. %(why)s") % {"why": tell_all(request, error)}
            modeladmin.message_user(request, text, messages.ERROR)
            return None

    return claiming


def _run(
    function: Callable[..., Any], modeladmin: Any, request: HttpRequest, queryset: QuerySet[Any]
) -> Any:
    """Call the action for the rows that are not somebody else's, and name the others."""
    model = queryset.model
    pks = list(dict.fromkeys(queryset.values_list("pk", flat=True)))
    with RowClaims(request, using_for(model)) as claims:
        refused = claims.take(model, pks)
        free = [pk for pk in pks if pk not in refused]
        if refused:
            names = _named(model, queryset.db, refused)
            modeladmin.message_user(
                request, _left_out(modeladmin, refused, names), messages.WARNING
            )
        if pks and not free:
            return None
        return function(modeladmin, request, _just(queryset, free, refused))


def _just(queryset: QuerySet[Any], pks: Sequence[Any], others: Any) -> QuerySet[Any]:
    """Return ``queryset`` without ``others``, and without rows that came to it meanwhile."""
    if len(pks) <= PINNED:
        return queryset.filter(pk__in=pks)
    return queryset.exclude(pk__in=list(others)) if others else queryset


def _named(model: type[Model], using: str, pks: Any) -> dict[Any, str]:
    """Return how the first of the rows ``pks`` are called."""
    some = list(pks)[:NAMED]
    rows = model._base_manager.using(using).filter(pk__in=some)
    return {row.pk: name_of(row) for row in rows}


def _left_out(modeladmin: Any, refused: dict[Any, WriteRefused], names: dict[Any, str]) -> str:
    some = list(refused.items())[:NAMED]
    rows = [_row(names.get(pk, str(pk)), lock_words(error.lock)) for pk, error in some]
    return ngettext(
        "%(count)d %(name)s was left out, because it is locked: %(rows)s.",
        "%(count)d %(name)s were left out, because they are locked: %(rows)s.",
        len(refused),
    ) % {
        "count": len(refused),
        "name": model_ngettext(modeladmin.opts, len(refused)),
        "rows": _listed(rows, len(refused)),
    }


def _row(name: str, why: str) -> str:
    return _("%(row)s (%(why)s)") % {"row": name, "why": why}


def _listed(rows: list[str], count: int) -> str:
    text = "; ".join(rows)
    more = count - len(rows)
    return _("%(rows)s and %(more)d more") % {"rows": text, "more": more} if more > 0 else text


# Rows edited in the list ---------------------------------------------------------------------


def _rows_kept(refused: Sequence[RefusedRow]) -> str:
    rows = [_("%(row)s: %(why)s") % {"row": name, "why": why} for _form, name, why in refused]
    return _("Nothing was saved. %(rows)s") % {"rows": _listed(rows[:NAMED], len(rows))}


def _align(changelist: Any) -> None:
    """Show each form of the formset beside its own row, wherever the list has that row now."""
    rows = {row.pk: row for row in changelist.result_list}
    instances = [form.instance for form in changelist.formset.forms]
    changelist.result_list = [rows.get(row.pk, row) for row in instances]
