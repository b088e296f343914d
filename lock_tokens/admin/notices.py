"""What the admin's pages say of the lock: their script, the token in the form, the refusal."""

from __future__ import annotations

from typing import Any

from django import forms
from django.forms.widgets import Script

from lock_tokens import conflicts, settings
from lock_tokens.admin.decision import Editing
from lock_tokens.conflicts import conflict_of
from lock_tokens.pages import PageLock
from lock_tokens.responses import tell_all


class RefusedForm(forms.ModelForm):  # type: ignore[type-arg]
    """Made a base of a form that is shown again after a refusal: it is never valid."""

    refusal: str

    def full_clean(self) -> None:
        super().full_clean()
        self.add_error(None, self.refusal)


def page_styles() -> forms.Media:
    return forms.Media(css={"all": ["lock_tokens/page.css"]})


def page_media(attributes: dict[str, Any] | None = None) -> forms.Media:
    """Return the script of an open page, with ``attributes``, and its styles.

    Without them the script only puts times into the reader's own zone.
    """
    scripts: list[Any] = [Script("lock_tokens/page.js", **(attributes or {"defer": True}))]
    if attributes:
        scripts.insert(0, Script("lock_tokens/client.js", defer=True))
    return page_styles() + forms.Media(js=scripts)


class TokenField(forms.CharField):
    """Shows the token it is made with, whatever the form was sent with."""

    widget = forms.HiddenInput

    def bound_data(self, data: Any, initial: Any) -> Any:
        return initial


def add_token_field(adminform: Any, token: str) -> None:
    """Let the form carry ``token``."""
    name = settings.current.TOKEN_FIELD
    adminform.form.fields[name] = TokenField(initial=token, required=False)
    fieldsets = [(title, dict(options)) for title, options in adminform.fieldsets]
    fieldsets = fieldsets or [(None, {"fields": ()})]
    fieldsets[0][1]["fields"] = [*fieldsets[0][1]["fields"], name]
    adminform.fieldsets = fieldsets


def explain(editing: Editing) -> str:
    """Return why the form was not saved, for the person who sent it."""
    page, error = editing.page, editing.error
    if page is None:
        return tell_all(editing.request, error) if error else ""
    return conflicts.explain(page)


def add_conflict(
    form: forms.BaseForm, formsets: list[forms.BaseFormSet[Any]], page: PageLock, url: str
) -> None:
    """Add to the errors of ``form`` what differs, and the way on."""
    form.add_error(None, conflict_of(form, formsets, page, url))
