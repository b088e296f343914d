"""Formsets of the admin whose rows are claimed, and compared with what the page had shown.

Each field of a row carries along what it showed when the page was made. So a row in which nothing
was typed is not written, and one that somebody else has changed meanwhile is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from django import forms
from django.core.exceptions import ValidationError
from django.db import connections
from django.db.models import Model
from django.forms.formsets import DELETION_FIELD_NAME
from django.forms.models import BaseModelFormSet, model_to_dict
from django.http import HttpRequest
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from lock_tokens.admin.decision import editing_of
from lock_tokens.admin.rows import RowClaims, claims_of, lock_words, name_of
from lock_tokens.enforcement.subjects import rows_with
from lock_tokens.exceptions import WriteRefused
from lock_tokens.responses import tell_all
from lock_tokens.targets import Target, target_of

if TYPE_CHECKING:
    Base = BaseModelFormSet[Any, Any]
else:
    Base = object


# They send several fields, of other names, or none at all.
COMPOSITE = (forms.MultiWidget, forms.MultipleHiddenInput)


class RefusedRow(NamedTuple):
    """A form that is not to be saved: what its row is called, and why."""

    form: Any
    name: str
    why: str


class ClaimingFormSet(Base):
    """Mixed into a formset of the admin for one request."""

    model: type[Model]
    request: HttpRequest
    # The object whose page the formset is on; its lock is the business of that page.
    parent: Model | None
    refused: list[RefusedRow]

    def add_fields(self, form: Any, index: int | None) -> None:
        if index is not None and index < self.initial_form_count():
            for name, field in form.fields.items():
                if name != self.model._meta.pk.name:
                    _carry_along(field)
        super().add_fields(form, index)

    def full_clean(self) -> None:
        if self.is_bound:
            self._carry_on()
        # Before the forms put into their instances what was typed.
        claims = claims_of(self.request)
        found = self._refused_rows(claims) if self.is_bound and claims else []
        super().full_clean()
        if self.is_bound:
            self._keep_forms_of_gone_rows()
        self.refused = found
        for form, name, why in found:
            form.add_error(None, why)
            if _is_deleted(form):
                # Django asks no form that is to be deleted for its errors.
                self._non_form_errors.append(ValidationError(f"{name}: {why}"))  # type: ignore[attr-defined]
        if claims and claims.error and self.is_bound and self.initial_forms:
            text = tell_all(self.request, claims.error)
            self._non_form_errors.append(ValidationError(text))  # type: ignore[attr-defined]

    def _carry_on(self) -> None:
        """Let the rows, if they are shown again, carry along what they should."""
        editing = editing_of(self.request)
        data = self.data.copy()  # type: ignore[attr-defined]
        for form in self.initial_forms:
            form.data = data
            _keep_as_shown(form, data)
            if editing and editing.compares:
                _take_as_shown(form, data)

    def _keep_forms_of_gone_rows(self) -> None:
        # The admin pairs the rows it finds with the forms: without this it drops the last ones.
        self._queryset = [form.instance for form in self.initial_forms]
        for form in self.initial_forms:
            if form.instance.pk is None and not _is_deleted(form):
                form.add_error(None, _gone())

    def _refused_rows(self, claims: RowClaims) -> list[RefusedRow]:
        changed = {
            form.instance.pk: form
            for form in self.initial_forms
            if form.instance.pk is not None and (form.has_changed() or _is_deleted(form))
        }
        if not changed:
            return []
        locked = claims.take(self.model, changed, spared=self._spared())
        rows = rows_with(self.model, list(changed), claims.using)
        if connections[claims.using].features.has_select_for_update:
            # Also what was written since this transaction first read.
            rows = rows.select_for_update().order_by("pk")
        stored = {row.pk: row for row in rows}
        found = []
        for pk, form in changed.items():
            row = stored.get(pk)
            if why := _refusal(form, row, locked.get(pk)):
                found.append(RefusedRow(form, name_of(row or form.instance), why))
            elif row is not None:
                _refresh(form, row)
        return found

    def _spared(self) -> list[Target]:
        parent = self.parent
        return [target_of(parent)] if parent is not None and parent.pk is not None else []


def claiming_formset(formset: Any, request: HttpRequest, parent: Model | None = None) -> Any:
    """Return the class ``formset`` with its rows claimed for ``request``."""
    attributes: dict[str, Any] = {"request": request, "parent": parent, "refused": []}
    return type(formset.__name__, (ClaimingFormSet, formset), attributes)


def _carry_along(field: forms.Field) -> None:
    """Let ``field``, that of one form, render what it shows a second time, hidden."""
    field.show_hidden_initial = True
    if isinstance(field, forms.FileField):
        # Of a file it is the name.
        field.to_python = partial(_file_or_name, field.to_python)  # type: ignore[method-assign]


def _file_or_name(to_python: Any, data: Any) -> Any:
    return data if isinstance(data, str) else to_python(data)


def _is_deleted(form: Any) -> bool:
    return DELETION_FIELD_NAME in form.changed_data


def _refusal(form: Any, row: Model | None, locked: WriteRefused | None) -> str:
    """Return why ``form`` is not to be saved to ``row``, the stored one; empty if it may be."""
    if locked is not None:
        return capfirst(lock_words(locked.lock))
    if row is None:
        return _gone()
    labels = list(_stale_labels(form, row))
    if not labels:
        return ""
    return ngettext(
        "%(fields)s has been changed since this page was opened. Open it afresh.",
        "%(fields)s have been changed since this page was opened. Open it afresh.",
        len(labels),
    ) % {"fields": ", ".join(labels)}


def _gone() -> str:
    return _("Somebody has deleted this since the page was opened.")


def _stale_labels(form: Any, row: Model) -> Iterator[str]:
    """Yield the labels of the fields that had shown something else than ``row`` has.

    What a page did not carry along is taken as something else.
    """
    now = model_to_dict(row, form._meta.fields, form._meta.exclude)
    for name, value in now.items():
        if name in form.fields and form.fields[name].show_hidden_initial:
            bound = form[name]
            widget = bound.field.hidden_widget()
            missing = _is_missing(widget, form, bound.html_initial_name)
            shown = widget.value_from_datadict(form.data, form.files, bound.html_initial_name)
            if missing or _text(shown) != _text(_rendered(bound, widget, value)):
                yield str(bound.label)


def _keep_as_shown(form: Any, data: Any) -> None:
    """Let Django find in ``data`` what the page of ``form`` had shown, in several fields or none.

    It looks for one of the plain name; without it, what was typed would pass for what was shown.
    """
    for name, field in form.fields.items():
        if field.show_hidden_initial and isinstance(field.hidden_widget(), COMPOSITE):
            initial = form[name].html_initial_name
            if initial not in data:
                data.setlist(initial, [])


def _take_as_shown(form: Any, data: Any) -> None:
    """Put into ``data`` what is stored in the row of ``form``, which its page shows from now on."""
    for name, value in model_to_dict(form.instance, form._meta.fields, form._meta.exclude).items():
        if name in form.fields and form.fields[name].show_hidden_initial:
            bound = form[name]
            widget = bound.field.hidden_widget()
            _put(data, widget, bound.html_initial_name, _rendered(bound, widget, value))


def _put(data: Any, widget: forms.Widget, name: str, value: Any) -> None:
    """Put the formatted ``value`` into ``data`` as a browser sends it from ``widget``."""
    if isinstance(widget, forms.MultiWidget):
        suffixes = widget.widgets_names  # type: ignore[attr-defined]
        for part, suffix, each in zip(widget.widgets, suffixes, value, strict=True):
            _put(data, part, name + suffix, each)
    else:
        sent = _text(value)
        data.setlist(name, sent if isinstance(sent, list) else [sent])


def _is_missing(widget: forms.Widget, form: Any, name: str) -> bool:
    # An empty list of values is sent as nothing.
    several = isinstance(widget, forms.MultipleHiddenInput)
    return not several and widget.value_omitted_from_data(form.data, form.files, name)


def _rendered(bound: Any, widget: forms.Widget, value: Any) -> Any:
    """Return the stored ``value`` as the hidden field would have it now."""
    if hasattr(value, "microsecond") and not bound.field.widget.supports_microseconds:
        value = value.replace(microsecond=0)
    return _formatted(widget, bound.field.prepare_value(value))


def _formatted(widget: forms.Widget, value: Any) -> Any:
    if isinstance(widget, forms.MultiWidget):
        parts = value if isinstance(value, list) else widget.decompress(value)
        parts = parts or [None] * len(widget.widgets)
        return [_formatted(w, part) for w, part in zip(widget.widgets, parts, strict=True)]
    return widget.format_value(value)


def _text(value: Any) -> Any:
    """Return ``value`` such that it can be compared with what a browser sends."""
    if isinstance(value, (list, tuple)):
        return [_text(part) for part in value]
    return "" if value is None else str(value).replace("\r\n", "\n").replace("\r", "\n")


def _refresh(form: Any, row: Model) -> None:
    """Let the instance of ``form`` have what is stored in the fields that the form leaves alone."""
    for field in row._meta.concrete_fields:
        if field.attname in form.instance.__dict__:
            setattr(form.instance, field.attname, getattr(row, field.attname))
    form.initial.update(model_to_dict(row, form._meta.fields, form._meta.exclude))
