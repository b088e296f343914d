"""The ``LOCK_TOKENS`` setting: one typed object, read at every use.

``from lock_tokens.settings import TIMEOUT`` gives today's value; ``lock_tokens.settings.TIMEOUT``
is live.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model

# What the column holds: 68 years.
MAX_TIMEOUT = 2**31 - 1
POLICIES = ("require", "respect")
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^`|~-]+")


def _timeout(value: object) -> str | None:
    if type(value) is int and 1 <= value <= MAX_TIMEOUT:
        return None
    return f"must be a whole number of seconds from 1 to {MAX_TIMEOUT}"


def _boolean(value: object) -> str | None:
    return None if isinstance(value, bool) else "must be True or False"


def _text(value: object) -> str | None:
    return None if isinstance(value, str) and value.strip() else "must be a non-empty string"


def _header(value: object) -> str | None:
    if isinstance(value, str) and HEADER_NAME.fullmatch(value):
        return None
    return "must be the name of an HTTP header, without underscores"


def _one_of(*choices: object) -> Callable[[object], str | None]:
    # Compared with their types: 1 is not True here.
    known = {(type(choice), choice) for choice in choices}
    wanted = ", ".join(map(repr, choices))

    def check(value: object) -> str | None:
        hashable = isinstance(value, (str, bool, int))
        return None if hashable and (type(value), value) in known else f"must be one of {wanted}"

    return check


def _status(value: object) -> str | None:
    fits = type(value) is int and 400 <= value <= 499
    return None if fits else "must be an HTTP status from 400 to 499 (403, 409 and 423 are useful)"


def is_label(value: object) -> bool:
    return isinstance(value, str) and value.count(".") == 1 and all(value.split("."))


def _labels(value: object) -> str | None:
    if value is None or value == "__all__":
        return None
    if isinstance(value, (list, tuple, set, frozenset)) and all(map(is_label, value)):
        return None
    return 'must be None, "__all__" or a list of model labels such as "news.Article"'


def _enforced(value: object) -> str | None:
    if isinstance(value, Mapping):
        if all(map(is_label, value)) and all(isinstance(o, Mapping) for o in value.values()):
            return None
    elif isinstance(value, (list, tuple, set, frozenset)) and all(map(is_label, value)):
        return None
    return (
        'must be a list of model labels such as "news.Article", '
        "or a dict of labels and their options"
    )


def via_path(via: str) -> tuple[str, ...]:
    """Return the names of the foreign keys in a value of ``VIA``, such as "order.customer"."""
    return tuple(via.replace("__", ".").split("."))


class Spec(NamedTuple):
    """A setting: its default and what is wrong with a value (``None``: nothing)."""

    default: Any
    problem: Callable[[object], str | None]


SPECS: dict[str, Spec] = {
    "TIMEOUT": Spec(3600, _timeout),
    "DATEFORMAT": Spec("%Y-%m-%d %H:%M:%S %Z", _text),
    "API_CSRF_EXEMPT": Spec(False, _boolean),
    "API_MODELS": Spec(None, _labels),
    "API_PERMISSION": Spec("lock_tokens.permissions.default", _text),
    "API_LOCKED_STATUS": Spec(403, _status),
    "ENFORCED_MODELS": Spec({}, _enforced),
    "OUTSIDE_REQUEST": Spec("refuse", _one_of("refuse", "respect", "allow")),
    "TOKEN_HEADER": Spec("X-Lock-Token", _header),
    "TOKEN_FIELD": Spec("lock_token", _text),
    "SHOW_HOLDER": Spec("authenticated", _one_of(True, "authenticated", False)),
}


def raw() -> Mapping[str, Any]:
    """Return ``settings.LOCK_TOKENS`` as written, or raise ``ImproperlyConfigured``."""
    value = getattr(django_settings, "LOCK_TOKENS", {})
    if type(value) is not dict and not isinstance(value, Mapping):
        raise ImproperlyConfigured(f"LOCK_TOKENS must be a dict, not {value!r}.")
    return value


# The value of each key that was last found to be right.
_found_right: dict[str, Any] = {}


class LockTokensSettings:
    """Every key of ``LOCK_TOKENS`` as an attribute; a wrong value raises when it is read."""

    TIMEOUT: int
    DATEFORMAT: str
    API_CSRF_EXEMPT: bool
    API_MODELS: list[str] | str | None
    API_PERMISSION: str
    API_LOCKED_STATUS: int
    OUTSIDE_REQUEST: str
    TOKEN_HEADER: str
    TOKEN_FIELD: str
    SHOW_HOLDER: bool | str

    def __getattr__(self, name: str) -> Any:
        spec = SPECS.get(name)
        if spec is None:
            raise AttributeError(f"LOCK_TOKENS has no key {name!r}.")
        value = raw().get(name, spec.default)
        # Found right before; what is read is always what the setting is now.
        if _found_right.get(name, _found_right) is not value:
            if problem := spec.problem(value):
                raise ImproperlyConfigured(f"LOCK_TOKENS[{name!r}] {problem}, not {value!r}.")
            _found_right[name] = value
        return value

    @property
    def ENFORCED_MODELS(self) -> dict[str, Mapping[str, Any]]:  # noqa: N802
        """The options of each enforced model by its lower-case label."""
        value = self.__getattr__("ENFORCED_MODELS")
        pairs = value.items() if isinstance(value, Mapping) else ((label, {}) for label in value)
        return {label.lower(): options for label, options in pairs}

    def timeout_for(self, model: type[Model]) -> int:
        """Return how many seconds a lock on an object of ``model`` stays live."""
        enforced = self.ENFORCED_MODELS
        timed = any("TIMEOUT" in options for options in enforced.values())
        for ancestor in model.__mro__ if timed else ():
            label = getattr(getattr(ancestor, "_meta", None), "label_lower", "")
            own = enforced.get(label, {})
            if "TIMEOUT" in own:
                if problem := _timeout(own["TIMEOUT"]):
                    raise ImproperlyConfigured(
                        f"LOCK_TOKENS['ENFORCED_MODELS'][{label!r}]['TIMEOUT'] "
                        f"{problem}, not {own['TIMEOUT']!r}."
                    )
                return cast(int, own["TIMEOUT"])
        return self.TIMEOUT


current = LockTokensSettings()


def __getattr__(name: str) -> Any:
    return getattr(current, name)
