"""Short locks on many rows: a request writes rows that nobody opened, in one transaction.

Where a row has no lock, one is put for the length of the transaction; a row that somebody else
has locked is refused. Nobody else ever sees the locks that are put here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

from django.db import router, transaction
from django.db.models import Model
from django.http import HttpRequest
from django.utils.translation import gettext as _

from lock_tokens import batches, locking, settings, signals, verdicts
from lock_tokens.enforcement import context
from lock_tokens.enforcement.blocks import Block, Entry
from lock_tokens.enforcement.policy import families_of
from lock_tokens.enforcement.refusing import Refusal, refuse
from lock_tokens.enforcement.subjects import (
    follow,
    key_lookup,
    of_values,
    row_name,
    rows_with,
    tied_values,
)
from lock_tokens.enforcement.transactions import whole
from lock_tokens.exceptions import LockFacts, WriteRefused, locally, refusal_of_many
from lock_tokens.locking import Lock
from lock_tokens.sessions import forget
from lock_tokens.targets import Target, root_of, target_for
from lock_tokens.tokens import Presented, RequestTokens
from lock_tokens.verdicts import Case

ATTRIBUTE = "_lock_tokens_claims"


def claims_of(request: HttpRequest) -> RowClaims | None:
    """Return the claims inside which ``request`` is, if it is."""
    return getattr(request, ATTRIBUTE, None)


class RowClaims:
    """The short locks that ``request`` puts on rows inside, in one transaction of its own.

    What is written inside ends the locks that it was written under: those of the request's own
    session, whose open pages show old data now, and expired ones of others.
    """

    def __init__(self, request: HttpRequest, using: str) -> None:
        self.request = request
        self.using = using
        self._tokens = RequestTokens(request)
        self._placed: dict[Target, Lock] = {}
        # Locks that were there, and stay unless something is written under them.
        self._standing: list[_Standing] = []
        self._ended: dict[Target, Lock] = {}
        # What stopped the request when it was tried before.
        self.error: WriteRefused | None = None

    def __enter__(self) -> RowClaims:
        with ExitStack() as stack:
            stack.enter_context(whole(self.using))
            stack.callback(setattr, self.request, ATTRIBUTE, claims_of(self.request))
            setattr(self.request, ATTRIBUTE, self)
            self._in_hand = stack.enter_context(ExitStack())
            stack.push(self._end_unless_failed)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: Any) -> None:
        self._stack.__exit__(kind, *exc_info)
        if kind is None:
            self._forget()

    def _end_unless_failed(self, kind: type[BaseException] | None, *exc_info: Any) -> None:
        # What is rolled back takes the short locks with it.
        if kind is None and not transaction.get_connection(self.using).needs_rollback:
            self._end()

    def take(
        self, model: type[Model], pks: Iterable[Any], *, spared: Collection[Target] = ()
    ) -> dict[Any, WriteRefused]:
        """Claim the rows of ``model`` with the keys ``pks`` until the transaction ends.

        Returns the errors of those that are not to be written, by their keys. The locks of
        ``spared`` are somebody else's business. Statements: 1 for every 4,000 rows; 1 more where
        other objects protect them; 2 and 2 for each many-to-many relation where they are under
        locks of the session or expired ones; up to 2 for refusals.
        """
        by_pk = {
            pk: [t for t in targets if t not in spared and t not in self._placed]
            for pk, targets in protecting(model, list(pks), self.using).items()
        }
        targets = {target for some in by_pk.values() for target in some}
        found, placed = batches.place(targets, seconds=settings.current.TIMEOUT)
        self._placed.update(placed)
        theirs, own, expired = self._sorted(found)
        errors = self._refuse(theirs)
        self._present(model, {**placed, **expired})
        self._watch(model, by_pk, {**own, **expired}, errors)
        refused = ((pk, [errors[t] for t in some if t in errors]) for pk, some in by_pk.items())
        return {pk: some[0] for pk, some in refused if some}

    def protect(self, targets: Iterable[Target]) -> None:
        """Claim ``targets``, which what is written next will be tied to, or raise a refusal.

        Statements: 1, or none without targets; up to 2 for refusals.
        """
        wanted = {target for target in targets if target not in self._placed}
        if not wanted:
            return
        found, placed = batches.place(wanted, seconds=settings.current.TIMEOUT)
        self._placed.update(placed)
        theirs, _own, expired = self._sorted(found)
        if theirs:
            raise refusal_of_many(list(self._refuse(theirs).values()))
        self._ended.update(expired)
        self._hand_over({**placed, **expired})

    def _sorted(
        self, found: dict[Target, Lock]
    ) -> tuple[list[Case], dict[Target, Lock], dict[Target, Lock]]:
        theirs: list[Case] = []
        own: dict[Target, Lock] = {}
        expired: dict[Target, Lock] = {}
        for target, lock in found.items():
            case = Case(target, lock, self._tokens.presented_for(target))
            if verdicts.allows(lock, self._tokens.presented_for(target)):
                own[target] = lock
            elif case.is_locked:
                theirs.append(case)
            else:
                expired[target] = lock
        return theirs, own, expired

    def _refuse(self, cases: list[Case]) -> dict[Target, WriteRefused]:
        errors = verdicts.refusals(cases, authenticated=self._tokens.authenticated)
        refusals = [
            Refusal(error, case.target.model, case.target.pk, case.target.using, False)
            for case, error in zip(cases, errors, strict=True)
        ]
        # It logs and announces them; what to do about them the caller has to know.
        with suppress(WriteRefused):
            refuse(refusals)
        return {case.target: error for case, error in zip(cases, errors, strict=True)}

    def _present(self, model: type[Model], locks: dict[Target, Lock]) -> None:
        """Let the guard know that the rows of ``locks`` are in hand."""
        if locks and families_of(model):
            self._hand_over(locks)
            # It need not look at each of them again.
            self._in_hand.enter_context(context.judging(_marks(model, locks)))

    def _hand_over(self, locks: dict[Target, Lock]) -> None:
        tokens = [Presented(lock.token, target) for target, lock in locks.items()]
        self._in_hand.enter_context(_presenting(tokens))

    def _watch(
        self,
        model: type[Model],
        by_pk: dict[Any, list[Target]],
        locks: dict[Target, Lock],
        errors: Collection[Target],
    ) -> None:
        """Remember what the rows under ``locks`` have in them now."""
        under = {
            pk: {target: locks[target] for target in some if target in locks}
            for pk, some in by_pk.items()
            if not any(target in errors for target in some)
        }
        if under := {pk: some for pk, some in under.items() if some}:
            self._standing.append(_Standing(model, self.using, under))

    def _end(self) -> None:
        """Remove what was put, and the locks under which something was written."""
        for standing in self._standing:
            self._ended.update(standing.of_changed())
        ids = [lock.id for lock in (*self._placed.values(), *self._ended.values())]
        batches.discard(self.using, ids)
        for target, lock in self._ended.items():
            locking.announce(signals.object_unlocked, target, lock)

    def _forget(self) -> None:
        """Let the session forget the tokens of the locks that have ended."""
        session = getattr(self.request, "session", {})
        for target, lock in self._ended.items():
            forget(session, target, lock.token)


class _Standing:
    """Rows under locks that are to end if the rows are written."""

    def __init__(
        self, model: type[Model], using: str, under: dict[Any, dict[Target, Lock]]
    ) -> None:
        self.model = model
        self.using = using
        self.under = under
        self.before = _contents(model, under, using)

    def of_changed(self) -> dict[Target, Lock]:
        """Return the locks of the rows that are not what they were. Statements: as ``before``."""
        after = _contents(self.model, self.under, self.using)
        return {
            target: lock
            for pk, locks in self.under.items()
            if after.get(pk) != self.before.get(pk)
            for target, lock in locks.items()
        }


class _presenting(Block):  # noqa: N801 - as the other blocks
    """Presents the tokens of locks that were put for the transaction."""

    def __init__(self, tokens: Iterable[Presented]) -> None:
        super().__init__()
        self._presented = tuple(tokens)

    def enter(self) -> tuple[Entry, Any]:
        return Entry(self, tokens=self._presented), None


def _marks(model: type[Model], targets: Iterable[Target]) -> Iterator[Any]:
    """Yield what the guard passes: the rows' own policies for rows of which the lock is ours."""
    policies = {
        family.root: family.standing(model).policy
        for family in families_of(model)
        if family.policies
    }
    return ((t, policies[t.model]) for t in targets if t.model in policies)


def _contents(model: type[Model], pks: Collection[Any], using: str) -> dict[Any, list[Any]]:
    """Return what is stored in the rows ``pks``. Statements: 1, and 1 a many-to-many relation."""
    rows = rows_with(model, list(pks), using)
    columns = [field.attname for field in model._meta.concrete_fields]
    found = {pk: [values] for pk, *values in rows.values_list("pk", *columns)}
    for relation in model._meta.many_to_many:
        pairs = rows.order_by("pk", relation.name).values_list("pk", relation.name)
        for pk, other in pairs:
            found[pk].append((relation.name, other))
    return found


def protecting(model: type[Model], pks: list[Any], using: str) -> dict[Any, list[Target]]:
    """Return the objects whose locks protect each of the rows ``pks`` of ``model``.

    That is the row itself, its rows in other enforced models, and what it is tied to. A key that
    no lock can have has none. Statements: 0, or 1 and as ``follow`` for rows that are tied.
    """
    found = {pk: list(_own(model, pk, using)) for pk in pks}
    families = families_of(model)
    others = [f for f in families if f.root is not root_of(model) and f.policies]
    ties = [tie for f in families for tie in f.ties if issubclass(model, tie.model)]
    if not pks or not (others or ties):
        return found
    columns = [key_lookup(model, family.root) for family in others]
    columns += [model._meta.get_field(tie.path[0]).attname for tie in ties]  # type: ignore[union-attr]
    # Locked, so that nobody ties them to others meanwhile.
    rows = rows_with(model, pks, using).select_for_update().order_by("pk")
    values = list(rows.values_list("pk", *columns))
    for index, family in enumerate(others, start=1):
        for row in values:
            found[row[0]].append(target_for(family.root, row[index], using))
    for index, tie in enumerate(ties, start=1 + len(others)):
        ends = follow(tie.model, tie.path, [row[index] for row in values], using)
        for row in values:
            if ends.get(row[index]) is not None:
                found[row[0]].append(target_for(tie.protector, ends[row[index]], using))
    return found


def _own(model: type[Model], pk: Any, using: str) -> Iterator[Target]:
    with suppress(ValueError):
        yield target_for(model, pk, using)


def newly_protecting(obj: Model, using: str) -> set[Target]:
    """Return what ``obj`` will be tied to once it is saved, and is not tied to yet.

    Statements: 0 for a model without ties, else as ``protecting`` and ``follow``.
    """
    values = [(row_name(obj), tied_values(obj))]
    found = {subject.target for subject in of_values(type(obj), values, using)}
    if found and not obj._state.adding:
        found -= {t for some in protecting(type(obj), [obj.pk], using).values() for t in some}
    return found


def newly_related(form: Any, using: str) -> Iterator[Target]:
    """Yield what protects the other ends of the relations that ``form`` is going to change.

    Statements: 1 for each many-to-many relation of which an enforced model is the other end.
    """
    for relation in form.instance._meta.many_to_many:
        through = relation.remote_field.through
        ties = [
            tie
            for family in families_of(through)
            for tie in family.ties
            if tie.model is through and tie.path[0] == relation.m2m_reverse_field_name()
        ]
        if not ties or relation.name not in form.cleaned_data:
            continue
        now = {obj.pk for obj in relation.value_from_object(form.instance)}
        changed = now ^ {obj.pk for obj in form.cleaned_data[relation.name]}
        for tie in ties:
            for end in follow(through, tie.path, changed, using).values():
                yield target_for(tie.protector, end, using)


def using_for(model: type[Model]) -> str:
    """Return the database where rows of ``model`` are written."""
    return router.db_for_write(model)


def name_of(row: Model) -> str:
    """Return how a message names ``row``."""
    return _("%(model)s “%(row)s”") % {"model": row._meta.verbose_name, "row": row}


def lock_words(lock: LockFacts | None) -> str:
    """Return whose a lock is, and until when, as far as the reader may know."""
    if lock is None:
        return _("locked")
    values = {"by": lock.by, "until": locally(lock.until)}
    if lock.by:
        return _("locked by %(by)s until %(until)s") % values
    return _("locked until %(until)s") % values
