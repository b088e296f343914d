"""What would a save change? Its instance compared with the stored row."""

from __future__ import annotations

import json
from typing import Any

from django.db.models import Field, JSONField, Model, QuerySet
from django.db.models.fields import DateField, DateTimeField, TimeField
from django.db.models.fields.files import FileField

from lock_tokens.enforcement.subjects import Saved


def changed_fields(saved: Saved, using: str) -> set[str]:
    """Return the names of the fields that a save would change in its row.

    The row is locked, so this holds until the transaction ends. Whatever cannot be compared
    counts as changed: expressions, files to be stored, what the save itself sets. Statements: 1.
    """
    instance, named = saved
    deferred = instance.get_deferred_fields()
    fields = [
        field
        for field in instance._meta.concrete_fields
        if not field.generated
        and field.attname not in deferred
        and (named is None or not {field.name, field.attname}.isdisjoint(named))
    ]
    model = instance._meta.concrete_model or type(instance)
    rows: Any = QuerySet(model, using=using).select_for_update().filter(pk=instance.pk)
    stored = rows.values(*(field.attname for field in fields)).first()
    if stored is None:
        return {field.name for field in fields}
    return {f.name for f in fields if _changes(f, instance, stored[f.attname])}


def _changes(field: Field[Any, Any], instance: Model, stored: Any) -> bool:
    value = getattr(instance, field.attname)
    if hasattr(value, "resolve_expression") or _sets_itself(field):
        return True
    if not getattr(value, "_committed", True):
        return True
    if isinstance(field, JSONField):
        # To Python 1 is True, and it is 1.0.
        return json_text(field, value) != json_text(field, stored)
    return bool(field.get_prep_value(value) != field.get_prep_value(stored))


def json_text(field: JSONField[Any, Any], value: Any) -> str:
    return json.dumps(value, cls=field.encoder, sort_keys=True)


def _sets_itself(field: Field[Any, Any]) -> bool:
    return getattr(field, "auto_now", False) or type(field).pre_save not in STORING_WHAT_IS_THERE


# What these do besides storing the value of the attribute is known here.
STORING_WHAT_IS_THERE = {
    each.pre_save for each in (Field, FileField, DateField, DateTimeField, TimeField)
}
