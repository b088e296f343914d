"""What is enforced, and how: ENFORCED_MODELS becomes a frozen Policy for each model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model

from lock_tokens import settings
from lock_tokens.targets import root_of


@dataclass(frozen=True, slots=True)
class Policy:
    """How the writes of one enforced model are judged."""

    model: type[Model]
    respect: bool = False
    report_only: bool = False
    exempt_fields: frozenset[str] = frozenset()

    def exempts(self, update_fields: frozenset[str] | None) -> bool:
        """Tell whether a save of just these fields needs no token."""
        if not update_fields or not self.exempt_fields:
            return False
        attnames = {
            self.model._meta.get_field(name).attname  # type: ignore[union-attr]
            for name in self.exempt_fields
        }
        return update_fields <= self.exempt_fields | attnames


@dataclass(frozen=True, slots=True)
class Family:
    """The models that may share rows with an enforced one, by multi-table inheritance.

    An object of the family is locked as an object of ``root``, whichever class it is saved as.
    """

    root: type[Model]
    policies: tuple[Policy, ...]

    def above(self, model: type[Model]) -> tuple[Policy, ...]:
        """Return the policies that every object of ``model`` is under, nearest first."""
        found = [policy for policy in self.policies if issubclass(model, policy.model)]
        return tuple(sorted(found, key=lambda policy: model.__mro__.index(policy.model)))

    def beside(self, model: type[Model]) -> tuple[Policy, ...]:
        """Return the policies that an object of ``model`` is under if it has such a row too."""
        return tuple(p for p in self.policies if not issubclass(model, p.model))


def _policy(label: str, model: type[Model]) -> Policy:
    options = settings.current.ENFORCED_MODELS[label]
    mode = options.get("POLICY", "require")
    if mode not in settings.POLICIES:
        raise ImproperlyConfigured(
            f"LOCK_TOKENS['ENFORCED_MODELS'][{label!r}]['POLICY'] must be one of "
            f"{', '.join(settings.POLICIES)}, not {mode!r}."
        )
    return Policy(
        model,
        respect=mode == "respect",
        report_only=options.get("REPORT_ONLY", False) is True,
        exempt_fields=_exempt_fields(options.get("EXEMPT_FIELDS", ())),
    )


def _exempt_fields(value: object) -> frozenset[str]:
    # A wrong value exempts nothing, and the system checks say what is wrong with it.
    if not isinstance(value, (list, tuple, set, frozenset)):
        return frozenset()
    return frozenset(name for name in value if isinstance(name, str))


def named_models() -> Iterator[tuple[str, type[Model]]]:
    """Yield each label of ENFORCED_MODELS and its model; unknown labels are for the checks."""
    for label in settings.current.ENFORCED_MODELS:
        try:
            model = apps.get_model(label)
        except LookupError:
            continue
        yield label, model._meta.concrete_model or model


@cache
def families() -> dict[type[Model], Family]:
    """Return the family of each root that has an enforced model in its tree."""
    policies: dict[type[Model], list[Policy]] = {}
    for label, model in named_models():
        policies.setdefault(root_of(model), []).append(_policy(label, model))
    return {root: Family(root, tuple(found)) for root, found in policies.items()}


def families_of(model: type[Model]) -> list[Family]:
    """Return the families in whose tables a row of ``model`` stands: one for each root."""
    concrete = model._meta.concrete_model or model
    roots = {root_of(m) for m in (concrete, *concrete._meta.get_parent_list())}
    return [family for root, family in families().items() if root in roots]


def is_enforced(model: type[Model]) -> bool:
    """Tell whether every write of an object of ``model`` is guarded."""
    return any(family.above(model) for family in families_of(model))
