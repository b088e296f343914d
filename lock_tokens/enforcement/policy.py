"""What is enforced, and how: ENFORCED_MODELS becomes a frozen Policy for each model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.apps import apps
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

    def exempts(self, update_fields: Collection[str] | None) -> bool:
        """Tell whether a save of just these fields needs no token."""
        if not update_fields or not self.exempt_fields:
            return False
        attnames = {
            self.model._meta.get_field(name).attname  # type: ignore[union-attr]
            for name in self.exempt_fields
        }
        return set(update_fields) <= self.exempt_fields | attnames


def strictest(policies: Sequence[Policy]) -> Policy:
    """Return the policy of an object that is under all of ``policies``."""
    return Policy(
        policies[0].model,
        respect=all(policy.respect for policy in policies),
        report_only=all(policy.report_only for policy in policies),
        exempt_fields=frozenset.intersection(*(policy.exempt_fields for policy in policies)),
    )


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


def _policy(label: str, options: Mapping[str, Any]) -> Policy:
    model = apps.get_model(label)
    return Policy(
        model._meta.concrete_model or model,
        respect=options.get("POLICY") == "respect",
        report_only=options.get("REPORT_ONLY", False),
        exempt_fields=frozenset(options.get("EXEMPT_FIELDS", ())),
    )


@cache
def families() -> dict[type[Model], Family]:
    """Return the family of each root that has an enforced model in its tree.

    The settings must have passed their checks.
    """
    policies: dict[type[Model], list[Policy]] = {}
    for label, options in settings.current.ENFORCED_MODELS.items():
        policy = _policy(label, options)
        policies.setdefault(root_of(policy.model), []).append(policy)
    return {root: Family(root, tuple(found)) for root, found in policies.items()}


def families_of(model: type[Model]) -> list[Family]:
    """Return the families in whose tables a row of ``model`` stands: one for each root."""
    concrete = model._meta.concrete_model or model
    roots = {root_of(m) for m in (concrete, *concrete._meta.get_parent_list())}
    return [family for root, family in families().items() if root in roots]
