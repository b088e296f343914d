"""What was typed into a form against what is stored: mine and theirs, field by field."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from django import forms
from django.db.models import Manager, Model, QuerySet
from django.forms.boundfield import BoundField
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from lock_tokens import settings
from lock_tokens.pages import HELD, PageLock
from lock_tokens.takeover import take_over_link

NOT_SHOWN = (forms.HiddenInput, forms.PasswordInput)


class Difference(NamedTuple):
    """A field whose typed value is not the stored one."""

    label: str
    mine: str
    theirs: str


def explain(page: PageLock) -> str:
    """Return why a form was not saved that came without the token of ``page``."""
    if page.state != HELD:
        return _("Nothing was saved. %(why)s What you typed is still here.") % {"why": page.tell()}
    return _(
        "Nothing was saved: this form is older than your lock, and somebody may have changed this "
        "since. What you typed is still here."
    )


def conflict_of(
    form: forms.BaseForm,
    formsets: Iterable[forms.BaseFormSet[Any]],
    page: PageLock,
    url: str,
) -> SafeString:
    """Return, for a form that was refused, what differs and the way on, as HTML.

    ``url`` is where the lock can be taken over. Place it in the form: it may have a button.
    """
    context = {
        "differences": differences(form, formsets),
        "comparable": any(not isinstance(bound.field.widget, NOT_SHOWN) for bound in form),
        "token": page.token,
        "field": settings.current.TOKEN_FIELD,
        "take_over": take_over_link(page, url, typed=True),
    }
    return SafeString(render_to_string("lock_tokens/conflict.html", context))


def differences(
    form: forms.BaseForm, formsets: Iterable[forms.BaseFormSet[Any]] = ()
) -> list[Difference]:
    """Return in what bound ``form`` and ``formsets`` differ from what they were made of.

    What they were made of has to be what is stored now.
    """
    rows = [row for formset in formsets for row in _of_formset(formset)]
    return [*_of_form(form), *rows]


def _of_form(form: forms.BaseForm, prefix: str = "") -> Iterator[Difference]:
    for bound in form:
        if not isinstance(bound.field.widget, NOT_SHOWN) and _differs(bound):
            label = f"{prefix}{capfirst(bound.label)}"
            mine, theirs = _shown(bound, bound.data), _shown(bound, bound.initial)
            if mine != theirs:
                yield Difference(label, mine, theirs)


def _differs(bound: BoundField) -> bool:
    # Not form.changed_data, which may compare with what the page showed when it was opened.
    field = bound.field
    return not field.disabled and field.has_changed(bound.initial, bound.data)


def _of_formset(formset: forms.BaseFormSet[Any]) -> Iterator[Difference]:
    for form in formset.initial_forms:
        instance = getattr(form, "instance", None)
        yield from _of_form(form, f"{instance}: " if instance is not None else "")


def _shown(bound: BoundField, value: Any) -> str:
    """Return ``value``, as it is stored or as it was typed, in the words of the page."""
    field = bound.field
    if isinstance(field, forms.BooleanField):
        return _("Yes") if field.to_python(value) else _("No")
    if isinstance(field, forms.ModelChoiceField):
        return ", ".join(_labels(field, value))
    if isinstance(field, forms.ChoiceField):
        return ", ".join(_chosen(field, value))
    if isinstance(field, forms.FileField):
        return str(value.name if hasattr(value, "name") else value or "")
    return _typed(field, value)


def _typed(field: forms.Field, value: Any) -> str:
    if isinstance(field.widget, forms.MultiWidget):
        parts = value if isinstance(value, list) else field.widget.decompress(value)
        pairs = zip(field.widget.widgets, parts or (), strict=False)
        return " ".join(str(widget.format_value(part) or "") for widget, part in pairs).strip()
    prepared = field.widget.format_value(field.prepare_value(value))
    return "" if prepared is None else str(prepared).replace("\r\n", "\n")


def _listed(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    if isinstance(value, (Manager, QuerySet, list, tuple, set)):
        return list(value.all() if isinstance(value, Manager) else value)
    return [value]


def _chosen(field: forms.ChoiceField, value: Any) -> list[str]:
    known: dict[Any, Any] = {}
    choices: Any = field.choices
    for key, label in choices:
        known |= dict(label) if isinstance(label, (list, tuple)) else {key: label}
    labels = {str(key): str(label) for key, label in known.items()}
    return [labels.get(str(each), str(each)) for each in _listed(value)]


def _labels(field: forms.ModelChoiceField[Any], value: Any) -> list[str]:
    """Return the labels of the chosen objects. Statements: 1."""
    keys = [each.pk if isinstance(each, Model) else each for each in _listed(value)]
    name = f"{field.to_field_name or 'pk'}__in"
    try:
        found = field.queryset.filter(**{name: keys}) if field.queryset is not None else ()
        return sorted(field.label_from_instance(obj) for obj in found)
    except (TypeError, ValueError):
        return [str(key) for key in keys]
