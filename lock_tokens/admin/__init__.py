"""Locks in the admin."""

from __future__ import annotations

from django.contrib import admin

from lock_tokens.admin.editing import EditingMixin
from lock_tokens.admin.lists import ListMixin
from lock_tokens.admin.locks import LockTokenAdmin
from lock_tokens.models import LockToken

__all__ = ["LockTokenAdmin", "LockableModelAdmin"]


class LockableModelAdmin(EditingMixin, ListMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """A ModelAdmin whose pages lock what they edit; the model need not be enforced."""


admin.site.register(LockToken, LockTokenAdmin)
