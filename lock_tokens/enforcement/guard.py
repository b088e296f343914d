"""May this write happen? One decision, used by every road to a row.

Whoever asks must be in the transaction of the write: the decision holds as long as the locks'
rows stay locked, and that is until the transaction ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Model

from lock_tokens import batches, locking, settings, verdicts
from lock_tokens.enforcement import context
from lock_tokens.enforcement.changes import changed_fields
from lock_tokens.enforcement.created import is_created_here
from lock_tokens.enforcement.policy import Family
from lock_tokens.enforcement.refusing import Refusal, refuse
from lock_tokens.enforcement.subjects import Subject, rows_with
from lock_tokens.exceptions import LockRequired
from lock_tokens.locking import Lock
from lock_tokens.targets import Target, key_for
from lock_tokens.verdicts import Case


class Judgement(NamedTuple):
    """What the guard found about a write that it lets pass."""

    # The marks of what need not be judged again in this write, and what has no row yet.
    judged: frozenset[Any] = frozenset()
    new: frozenset[Target] = frozenset()
    # The fields that the save may write, if it passes for the sake of these alone.
    only: frozenset[str] = frozenset()


def is_off(families: Sequence[Family]) -> bool:
    """Tell whether here and now nothing protects the rows of ``families``."""
    if not families:
        return True
    state = context.current()
    if _outside(state) == "allow":
        return True
    return bool(state.suspended) and all(
        state.suspends(roots) for family in families for roots in family.root_sets
    )


def _outside(state: context.State) -> str:
    return settings.current.OUTSIDE_REQUEST if state.request is None else "refuse"


def holds(target: Target) -> bool:
    """Tell whether a write that asks for the token of ``target`` alone has it in hand.

    The short way through ``judge`` for most writes; what it does not let pass has to be judged.
    Statements: 1, and 1 more to renew a lock of which less than half is left; 0 with no token.
    """
    state = context.current()
    if state.suspended or state.judged or _outside(state) != "refuse":
        return False
    require_transaction(target.label, target.pk, target.using)
    tokens = state.presented_for(target)
    lock = locking.hold(target) if tokens else None
    if lock is None or not verdicts.allows(lock, tokens):
        return False
    if verdicts.wants_renewal(lock, locking.now()):
        batches.renew({target: lock})
    return True


def judge(subjects: Iterable[Subject]) -> Judgement:
    """Let the write that changes ``subjects`` pass, or raise ``WriteRefused``.

    Statements: 1; 1 more to renew locks of which less than half is left; under the policy
    "respect" 1 more; 1 more to find that a row is new; up to 2 more for a refusal.
    """
    state = context.current()
    todo = list(subjects)
    if state.suspended or state.judged:
        todo = [subject for subject in todo if not _is_passed(subject, state)]
    outside = _outside(state)
    if not todo or outside == "allow":
        return Judgement()
    first = todo[0].target
    require_transaction(first.label, first.pk, first.using)
    refused = _refused(_joined(todo) if len(todo) > 1 else todo, state, outside)
    if not refused:
        return Judgement(frozenset(subject.mark for subject in todo))
    there = _rows_there([subject for subject, _ in refused if subject.may_be_new])
    new = {s.target for s, _ in refused if s.may_be_new and s.target not in there}
    errors = [(s, case) for s, case in refused if s.target not in new]
    # These fields need no token; another write of the object meanwhile does.
    spared = {s.target: fields for s, _ in errors if (fields := _exempt_changes(s))}
    if errors := [(s, case) for s, case in errors if s.target not in spared]:
        _refuse(errors, state)
    judged = frozenset(subject.mark for subject in todo if subject.target not in spared)
    return Judgement(judged, frozenset(new), frozenset[str]().union(*spared.values()))


def _joined(subjects: Iterable[Subject]) -> list[Subject]:
    """Return one subject for each target."""
    found: dict[Target, Subject] = {}
    for subject in subjects:
        known = found.get(subject.target)
        found[subject.target] = known.joined(subject) if known else subject
    return list(found.values())


def _is_passed(subject: Subject, state: context.State) -> bool:
    return state.suspends(subject.roots) or subject.mark in state.judged


def require_transaction(label: str, pk: Any, using: str) -> None:
    """Refuse a write that would land outside the transaction in which it is judged."""
    connection = transaction.get_connection(using)
    if not connection.in_atomic_block and connection.get_autocommit():
        raise LockRequired(
            f"{label} {pk} was not written: it is saved by a road that opens no transaction; "
            "wrap it in transaction.atomic().",
            model_label=label,
            pk=pk,
        )


def _refused(
    subjects: Sequence[Subject], state: context.State, outside: str
) -> list[tuple[Subject, Case]]:
    """Lock the locks' rows, renew those that were presented, and return what was not."""
    targets = [subject.target for subject in subjects]
    if any(_shuts_out(subject, outside) for subject in subjects):
        locks, discarded = batches.reserve(targets)
    else:
        locks, discarded = batches.hold(targets), []
    refused: list[tuple[Subject, Case]] = []
    moment = locking.now()
    fading: dict[Target, Lock] = {}
    for subject, target in zip(subjects, targets, strict=True):
        lock = locks.get(target)
        tokens = state.presented_for(target)
        if lock is not None and verdicts.allows(lock, tokens):
            if verdicts.wants_renewal(lock, moment) and not subject.ends:
                fading[target] = lock
            continue
        case = Case(target, lock, tokens)
        if case.is_locked or not (_respects(subject, outside) or is_created_here(target)):
            refused.append((subject, case))
        elif lock is not None and _shuts_out(subject, outside):
            # Expired: it becomes stale, as by a take-over.
            discarded.append(lock.id)
    if fading:
        batches.renew(fading)
    if discarded:
        batches.discard(targets[0].using, discarded)
    return refused


def _respects(subject: Subject, outside: str) -> bool:
    """Tell whether only the live locks of others count."""
    return subject.policy.respect or outside == "respect"


def _shuts_out(subject: Subject, outside: str) -> bool:
    """Tell whether nobody may take a lock until the write is done, though it is under none."""
    return _respects(subject, outside) and not subject.policy.report_only


def _rows_there(subjects: Sequence[Subject]) -> set[Target]:
    """Return the targets that have a row of an enforced model. Statements: 1 a model."""
    by_model: dict[type[Model], list[Target]] = {}
    for subject in subjects:
        for policy in (*subject.standing.above, *subject.standing.beside):
            by_model.setdefault(policy.model, []).append(subject.target)
    return {target for model, targets in by_model.items() for target in _with_row(model, targets)}


def _with_row(model: type[Model], targets: Sequence[Target]) -> Iterator[Target]:
    using = targets[0].using
    rows = rows_with(model, [target.pk for target in targets], using)
    keys = {key_for(model, pk) for pk in rows.values_list("pk", flat=True)}
    return (target for target in targets if target.key in keys)


def _exempt_changes(subject: Subject) -> set[str]:
    """Return what a save changes, if these are exempt fields only. Statements: 0 or 1."""
    saved, policy = subject.saved, subject.policy
    if saved is None or not policy.exempt_fields:
        return set()
    changed = changed_fields(saved, subject.target.using)
    return changed if policy.exempts(changed) else set()


def _refuse(refused: Sequence[tuple[Subject, Case]], state: context.State) -> None:
    known = state.request is not None and state.request.authenticated
    errors = verdicts.refusals([case for _, case in refused], authenticated=known)
    refusals = []
    for (subject, _), error in zip(refused, errors, strict=True):
        error.protects = subject.protects
        target, only = subject.target, subject.policy.report_only
        refusals.append(Refusal(error, target.model, target.pk, target.using, only))
    refuse(refusals)
