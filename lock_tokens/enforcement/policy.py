"""What is enforced, and how: ENFORCED_MODELS becomes a frozen Policy for each model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from functools import cache, cached_property
from typing import Any, NamedTuple, cast

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db.models import ForeignKey, ManyToManyField, Model

from lock_tokens import settings
from lock_tokens.targets import root_of


@dataclass(frozen=True, slots=True)
class Policy:
    """How the writes of one enforced model are judged."""

    model: type[Model]
    respect: bool = False
    report_only: bool = False
    exempt_fields: frozenset[str] = frozenset()
    # The foreign keys that lead to the object whose lock protects this one.
    via: tuple[str, ...] = ()

    def __hash__(self) -> int:
        # There are few, and what is judged is looked up by them.
        return hash(self.model)

    def exempts(self, fields: Collection[str] | None) -> bool:
        """Tell whether a write of just these ``fields`` needs no token."""
        if not fields or not self.exempt_fields:
            return False
        columns = (
            {field.name, field.attname}
            for field in self.model._meta.concrete_fields
            if not self.exempt_fields.isdisjoint({field.name, field.attname})
        )
        return set(fields) <= self.exempt_fields.union(*columns)


def strictest(policies: Sequence[Policy]) -> Policy:
    """Return the policy of an object that is under all of ``policies``."""
    if len(policies) == 1:
        return policies[0]
    return Policy(
        policies[0].model,
        respect=all(policy.respect for policy in policies),
        report_only=all(policy.report_only for policy in policies),
        exempt_fields=frozenset.intersection(*(policy.exempt_fields for policy in policies)),
    )


@dataclass(frozen=True, slots=True)
class Tie:
    """The rows of ``model`` are protected by the lock of the object where ``path`` ends.

    Such are the rows of a model with ``VIA``, and those of a many-to-many relation, which the
    objects at both of its ends protect.
    """

    model: type[Model]
    # Names of foreign keys, the first of them of ``model``.
    path: tuple[str, ...]
    # The model at the end, and the policies that its objects are under for this purpose: all of
    # ``above``, and those ``beside`` of which they have a row.
    protector: type[Model]
    above: tuple[Policy, ...]
    beside: tuple[Policy, ...] = ()
    # By VIA. A row that leads nowhere is then protected by its own lock.
    by_via: bool = False

    @property
    def roots(self) -> frozenset[type[Model]]:
        """The models whose suspension lets writes of these rows pass."""
        return frozenset({root_of(self.model)} | (set() if self.by_via else {self.end_root}))

    @property
    def end_root(self) -> type[Model]:
        """The root of the model to which the first foreign key leads."""
        return root_of(foreign_key(self.model, self.path[0]).related_model)


class Standing(NamedTuple):
    """The policies that an object of one model is under."""

    above: tuple[Policy, ...]
    # Those under which it is if it has such a row too.
    beside: tuple[Policy, ...]
    # All of them in one.
    policy: Policy
    # A write asks for nothing but the token of the object's own lock.
    plain: bool = False


def standing(above: tuple[Policy, ...], beside: tuple[Policy, ...] = ()) -> Standing:
    """Return the standing under ``above``, and ``beside``, of which there is one at least."""
    return Standing(above, beside, strictest((*above, *beside)))


@dataclass(frozen=True)
class Family:
    """The models that may share rows with an enforced one, by multi-table inheritance.

    An object of the family is locked as an object of ``root``, whichever class it is saved as.
    """

    root: type[Model]
    policies: tuple[Policy, ...] = ()
    ties: tuple[Tie, ...] = ()
    _standings: dict[type[Model], Standing] = dataclass_field(
        default_factory=dict, repr=False, compare=False
    )

    def standing(self, model: type[Model]) -> Standing:
        """Return the policies that the objects of ``model`` are under; there has to be one."""
        if model not in self._standings:
            known = standing(self.above(model), self.beside(model))
            alone = model._meta.concrete_model is self.root and len(self.root._meta.pk_fields) == 1
            asks_more = known.policy.respect or known.policy.exempt_fields
            self._standings[model] = known._replace(plain=alone and not asks_more)
        return self._standings[model]

    def above(self, model: type[Model]) -> tuple[Policy, ...]:
        """Return the policies that every object of ``model`` is under, nearest first."""
        found = [policy for policy in self.policies if issubclass(model, policy.model)]
        return tuple(sorted(found, key=lambda policy: model.__mro__.index(policy.model)))

    def beside(self, model: type[Model]) -> tuple[Policy, ...]:
        """Return the policies that an object of ``model`` is under if it has such a row too."""
        return tuple(p for p in self.policies if not issubclass(model, p.model))

    @cached_property
    def own_roots(self) -> frozenset[type[Model]]:
        """The models whose suspension lets writes of the rows' own policies pass."""
        return frozenset({self.root})

    @cached_property
    def root_sets(self) -> list[frozenset[type[Model]]]:
        """For each thing that protects the rows, the models whose suspension switches it off."""
        own = [self.own_roots] if self.policies else []
        return [*own, *(tie.roots for tie in self.ties)]

    @property
    def has_locks(self) -> bool:
        """Tell whether the rows may have locks of their own; rows of mere relations have none."""
        return bool(self.policies) or any(tie.by_via for tie in self.ties)

    def exempts(self, fields: Collection[str] | None) -> bool:
        """Tell whether a write of just these ``fields`` of the rows needs no token."""
        return bool(fields and self._all) and strictest(self._all).exempts(fields)

    @property
    def report_only(self) -> bool:
        """Tell whether no write of the rows is refused."""
        return all(policy.report_only for policy in self._all)

    @property
    def _all(self) -> list[Policy]:
        return [*self.policies, *(policy for tie in self.ties for policy in tie.above)]


def foreign_key(model: type[Model], name: str) -> ForeignKey[Any, Any]:
    return cast("ForeignKey[Any, Any]", model._meta.get_field(name))


def _policy(label: str, options: Mapping[str, Any]) -> Policy:
    model = apps.get_model(label)
    via = options.get("VIA")
    return Policy(
        model._meta.concrete_model or model,
        respect=options.get("POLICY") == "respect",
        report_only=options.get("REPORT_ONLY", False),
        exempt_fields=frozenset(options.get("EXEMPT_FIELDS", ())),
        via=settings.via_path(via) if via else (),
    )


class _Wiring:
    """Puts the families together from the policies."""

    def __init__(self, policies: Sequence[Policy]) -> None:
        self.via = {policy.model: policy for policy in policies if policy.via}
        self.policies: dict[type[Model], list[Policy]] = {}
        for policy in policies:
            if not policy.via:
                self.policies.setdefault(root_of(policy.model), []).append(policy)

    def families(self) -> dict[type[Model], Family]:
        ties: dict[type[Model], list[Tie]] = {}
        for tie in (*map(self._via_tie, self.via.values()), *self._relation_ties()):
            ties.setdefault(root_of(tie.model), []).append(tie)
        return {
            root: Family(root, tuple(self.policies.get(root, ())), tuple(ties.get(root, ())))
            for root in {**self.policies, **ties}
        }

    def _via_tie(self, policy: Policy) -> Tie:
        path, end = self._to_the_end(policy.model, policy.via)
        return Tie(policy.model, path, end, (policy,), by_via=True)

    def _to_the_end(
        self, model: type[Model], path: tuple[str, ...]
    ) -> tuple[tuple[str, ...], type[Model]]:
        """Follow ``path``, and go on where it ends at a model that has a VIA itself."""
        end = model
        for name in path:
            end = foreign_key(end, name).related_model
        more = next((self.via[each] for each in end.__mro__ if each in self.via), None)
        # A path longer than all of them goes round in circles; the checks say so.
        if more is None or len(path) > sum(len(policy.via) for policy in self.via.values()):
            return path, end
        rest, last = self._to_the_end(end, more.via)
        return (*path, *rest), last

    def _relation_ties(self) -> Iterator[Tie]:
        """Yield the ties of the rows of many-to-many relations to the objects at their ends."""
        for model in apps.get_models():
            for field in model._meta.local_many_to_many:
                through: Any = field.remote_field.through
                for key, names in _ends(field):
                    yield from self._end_ties(through, key, names)

    def _end_ties(self, through: type[Model], key: str, names: set[str]) -> Iterator[Tie]:
        end = foreign_key(through, key).related_model
        policies = self.policies.get(root_of(end), ())
        if policies and not strictest(policies).exempt_fields & names:
            # The exempt fields are those of the end, not those of the relation's rows.
            bare = [replace(policy, exempt_fields=frozenset()) for policy in policies]
            family = Family(root_of(end), tuple(bare))
            yield Tie(through, (key,), end, family.above(end), family.beside(end))
        for policy in {self.via[each] for each in end.__mro__ if each in self.via}:
            if not policy.exempt_fields & names:
                path, last = self._to_the_end(end, policy.via)
                bare = [replace(policy, exempt_fields=frozenset())]
                yield Tie(through, (key, *path), last, tuple(bare))


def _ends(field: ManyToManyField[Any, Any]) -> Iterator[tuple[str, set[str]]]:
    """Yield the foreign key to each end, and the names that the relation has there."""
    there = field.remote_field
    yield field.m2m_field_name(), {field.name}
    names = {there.name, there.get_accessor_name() or there.name}
    yield field.m2m_reverse_field_name(), names | ({field.name} if there.symmetrical else set())


_problems: list[str] = []


def set_problems(problems: Sequence[str]) -> None:
    """Let every question for what is enforced fail with ``problems``, until there are none."""
    _problems[:] = problems
    forget()


def forget() -> None:
    """Read the settings anew when they are asked for next."""
    families.cache_clear()
    _families_of.cache_clear()


@cache
def families() -> dict[type[Model], Family]:
    """Return the family of each root that has an enforced model in its tree, and of each model
    whose rows are tied to the objects of one.

    Raises ``ImproperlyConfigured`` while the settings have errors.
    """
    if _problems:
        raise ImproperlyConfigured(f"Nothing can be written: {' '.join(_problems)}")
    enforced = settings.current.ENFORCED_MODELS
    return _Wiring([_policy(label, options) for label, options in enforced.items()]).families()


def families_of(model: type[Model]) -> list[Family]:
    """Return the families in whose tables a row of ``model`` stands: one for each root."""
    return _families_of(model)


@cache
def _families_of(model: type[Model]) -> list[Family]:
    known = families()
    concrete = model._meta.concrete_model or model
    roots = {root_of(m) for m in (concrete, *concrete._meta.get_parent_list())}
    return [family for root, family in known.items() if root in roots]
