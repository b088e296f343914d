"""System checks of a LockableModelAdmin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error

from lock_tokens import settings


def check_editing(modeladmin: Any) -> Iterator[CheckMessage]:
    """Check the options of a ModelAdmin (E011), and the name of the token's field (E012)."""
    for name in ("lock_timeout", "lock_idle"):
        value = getattr(modeladmin, name)
        problem = settings.SPECS["TIMEOUT"].problem(value)
        if value is not None and problem:
            yield Error(
                f"The value of {name!r} {problem}, or None; it is {value!r}.",
                obj=modeladmin.__class__,
                id="lock_tokens.E011",
            )
    field = settings.current.TOKEN_FIELD
    if field in {each.name for each in modeladmin.opts.get_fields()}:
        yield Error(
            f"The form field of the lock's token is {field!r}, and so is a field of "
            f"{modeladmin.opts.label}.",
            hint="Give LOCK_TOKENS['TOKEN_FIELD'] another name.",
            obj=modeladmin.__class__,
            id="lock_tokens.E012",
        )
