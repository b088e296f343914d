"""Which lock belongs to an object: the database, the content type and the key of its row.

A proxy, a multi-table child and its parent are the same object, so they have the same target:
the root of the inheritance tree and the key of the root's row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from uuid import UUID

from django.contrib.contenttypes.models import ContentType, ContentTypeManager
from django.core.exceptions import ValidationError
from django.db import router
from django.db.models import Field, Model

# MariaDB indexes no more than 767 characters of four bytes; Django's own habit is 255.
MAX_KEY_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Target:
    """The identity of a lockable object; equal targets share one lock."""

    using: str
    content_type_id: int
    key: str
    model: type[Model] = field(compare=False)
    pk: Any = field(compare=False)
    # The class it was asked for by; its TIMEOUT applies.
    named: type[Model] = field(compare=False)

    def __hash__(self) -> int:
        # Text remembers its hash, and keys are what tells targets apart.
        return hash(self.key)

    @property
    def label(self) -> str:
        return self.model._meta.label

    @property
    def order(self) -> tuple[str, int, str]:
        """The one order in which several locks are taken, so that takers cannot deadlock."""
        return self.using, self.content_type_id, self.key


@cache
def root_of(model: type[Model]) -> type[Model]:
    """Return the concrete model at the top of the multi-table inheritance of ``model``."""
    concrete = model._meta.concrete_model or model
    relation = concrete._meta.pk.remote_field
    if relation is not None and getattr(relation, "parent_link", False):
        return root_of(relation.model)
    return concrete


class _Holder:
    """Carries one value to ``Field.value_to_string``, which wants an object with an attribute."""

    def __init__(self, attname: str, value: Any) -> None:
        setattr(self, attname, value)


def _text_of(field: Field[Any, Any], value: Any) -> str:
    if type(value) is int or type(value) is UUID:
        return str(value)
    if value is None:
        raise TypeError("None is no key.")
    while field.remote_field is not None:
        field = field.target_field  # type: ignore[attr-defined]
    holder = _Holder(field.attname, field.to_python(value))
    return field.value_to_string(holder)  # type: ignore[arg-type]


def key_for(model: type[Model], pk: Any) -> str:
    """Return the text under which the row of ``model`` with primary key ``pk`` is locked.

    Raises ``ValueError`` for a key that no row of ``model`` can have.
    """
    meta = root_of(model)._meta
    try:
        if len(meta.pk_fields) > 1:
            values = json.loads(pk) if isinstance(pk, str) else pk
            pairs = zip(meta.pk_fields, values, strict=True)
            key = json.dumps([_text_of(f, value) for f, value in pairs], ensure_ascii=False)
        else:
            key = _text_of(meta.pk, pk)
    except (ValidationError, TypeError, ValueError, ArithmeticError):
        raise ValueError(f"{pk!r} is not a key of {meta.label}.") from None
    if len(key) > MAX_KEY_LENGTH:
        raise ValueError(
            f"The key of this {meta.label} has {len(key)} characters; "
            f"a lockable object's key has {MAX_KEY_LENGTH} at most."
        )
    if "\x00" in key:
        raise ValueError(f"A key of {meta.label} cannot contain a NUL character.")
    return key


def key_from_text(model: type[Model], text: str) -> Any:
    """Return the primary key that ``key_for`` has made ``text`` of; ``text`` if it made it of none.

    A composite key stays text.
    """
    meta = root_of(model)._meta
    try:
        return text if len(meta.pk_fields) > 1 else meta.pk.to_python(text)
    except ValidationError:
        return text


def target_for(model: type[Model], pk: Any, using: str) -> Target:
    """Return the target of the object of ``model`` with primary key ``pk`` in database ``using``.

    Raises ``ValueError`` for a key that no row of ``model`` can have.
    """
    return next(targets_for(model, (pk,), using))


def targets_for(model: type[Model], pks: Iterable[Any], using: str) -> Iterator[Target]:
    """Yield the target for each of ``pks``; as ``target_for``."""
    root = root_of(model)
    content_type = None
    for pk in pks:
        key = key_for(root, pk)
        # Not before a key was found right: a wrong one costs no statement.
        if content_type is None:
            content_type = _types(using).get_for_model(root).pk
        yield Target(using, content_type, key, root, pk, model)


@cache
def _types(using: str) -> ContentTypeManager:
    # It remembers the content types of each database, and forgets them when Django says so.
    return ContentType.objects.db_manager(using)


def _has_key(obj: Model) -> bool:
    return all(getattr(obj, field.attname) is not None for field in obj._meta.pk_fields)


def target_of(obj: Model) -> Target:
    """Return the target of ``obj``, in the database to which ``obj`` would be written.

    Raises ``ValueError`` when ``obj`` has no key, because it was never saved or was deleted.
    """
    model = type(obj)
    if not _has_key(obj):
        raise ValueError(
            f"This {model._meta.label} is unsaved: it has no key, so it has no lock either. "
            "Save it first."
        )
    return target_for(model, obj.pk, router.db_for_write(model, instance=obj))
