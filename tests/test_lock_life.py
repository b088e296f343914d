"""A lock's life through Python: whatever several holders do, the rows are those of the model.

The examples are the same in every run. So many new ones are tried, and one that fails is cut down
to what it takes, by::

    LOCK_LIFE_EXAMPLES=1500 pytest -o faulthandler_timeout=0 tests/test_lock_life.py
"""

import re
import warnings
from datetime import timedelta
from functools import partial

import pytest
from django.db import connection
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, precondition, rule

from lock_tokens import locking, settings
from lock_tokens.enforcement import holding, locked
from lock_tokens.exceptions import (
    InvalidToken,
    LockExpiredWarning,
    LockTokensError,
    NoLockWarning,
)
from lock_tokens.models import LockableModel, LockToken
from tests.app.models import Article, ArticleProxy
from tests.conftest import OF_TRANSACTIONS
from tests.lock_life import (
    THINGS,
    LockLife,
    Row,
    endings,
    forgets_what_has_expired,
    holders,
    leaves_the_lock_of_what_is_deleted,
    live,
    live_until_it_fails,
    names,
    never_takes_over,
    picks,
    releases_with_any_token,
    removes_what_was_expired_when_it_looked,
    renews_what_is_gone,
    takes_over_in_place,
    takes_what_has_not_expired,
    world,
    writes_what_is_free,
    writes_with_any_token,
)

pytestmark = pytest.mark.django_db(transaction=True)

timeouts = st.sampled_from([None, None, 1, 30, 100, 1000])


def outcome(call):
    """Return what ``call`` returns, or the error of this package that it raises."""
    try:
        return call()
    except LockTokensError as error:
        return error


class Statements:
    """Counts the statements inside, but not those that begin and end transactions."""

    def __init__(self):
        self.count = 0

    def __enter__(self):
        self.wrapper = connection.execute_wrapper(self)
        self.wrapper.__enter__()
        return self

    def __exit__(self, *exc_info):
        self.wrapper.__exit__(*exc_info)

    def __call__(self, execute, sql, params, many, context):
        self.count += not sql.startswith(OF_TRANSACTIONS)
        return execute(sql, params, many, context)


def by_lock(obj, timeout):
    return LockableModel.lock(obj, timeout=timeout)


def by_manager(obj, timeout):
    """Take the lock, for the default timeout, or find the live one that somebody has."""
    lock, created = LockToken.objects.get_or_create_for_object(obj)
    assert created or not lock.has_expired()
    return lock.serialize()


def by_row(obj, timeout):
    lock = LockToken(locked_object=obj, locked_at=locking.now())
    lock.timeout = timeout or settings.current.timeout_for(type(obj))
    lock.save()
    return lock.serialize()


def by_save(thing, value):
    obj = thing.instance()
    setattr(obj, thing.field, value)
    obj.save()


def by_save_of_one_field(thing, value):
    obj = thing.rows.get()
    setattr(obj, thing.field, value)
    obj.save(update_fields=[thing.field])


def by_save_of_a_new_instance(thing, value):
    thing.model(**thing.key, **{thing.field: value}).save()


def by_save_through_a_proxy(thing, value):
    model = ArticleProxy if thing.model is Article else thing.model
    obj = model.objects.get(**thing.key)
    setattr(obj, thing.field, value)
    obj.save()


def by_update(thing, value):
    thing.rows.update(**{thing.field: value})


def by_bulk_update(thing, value):
    obj = thing.rows.get()
    setattr(obj, thing.field, value)
    thing.model.objects.bulk_update([obj], [thing.field])


def by_update_or_create(thing, value):
    thing.model.objects.update_or_create(**thing.key, defaults={thing.field: value})


# How many statements each takes without enforcement, and how many more with it.
ROADS = {
    by_save: (1, 1),
    by_save_of_one_field: (2, 1),
    by_save_of_a_new_instance: (1, 1),
    by_save_through_a_proxy: (2, 1),
    by_update: (1, 3),
    by_bulk_update: (2, 3),
    by_update_or_create: (2, 1),
}


def may_be_spelt_differently(name):
    """Return how many statements more it takes to find out how a key is stored."""
    return int(name == "slug" and connection.vendor == "mysql")


class PythonLife(LockLife):
    instances = Bundle("instances")

    def check_refusal(self, error, kind, name, row=None):
        """Check that the error is of exactly that kind, says what it has to and no token."""
        thing = THINGS[name]
        assert type(error).__name__ == kind
        assert (error.model_label, error.pk) == (thing.label, thing.pk)
        facts = error.lock and (error.lock.since, error.lock.until, error.lock.by)
        assert facts == (row and (self.created[name], row.expires_at, None))
        for told in (str(error), repr(error)):
            assert not any(token in told for each in THINGS for token in self.got(each))

    @rule(
        name=names,
        holder=holders,
        timeout=timeouts,
        road=st.sampled_from([by_lock, by_lock, by_manager, by_row]),
        ending=endings,
    )
    def lock(self, name, holder, timeout, road, ending):
        if name not in self.contents:
            self._is_not_locked_unsaved(name)
            return
        with self.step(ending, holder) as now:
            row, is_live = self.locks.get(name), self.locks.is_live(name, now)
            with Statements() as statements:
                found = outcome(lambda: road(THINGS[name].instance(), timeout))
            if not is_live:
                assert isinstance(found, dict), found
                assert statements.count <= (4 if row else 1)
                self.granted(name, holder, found["token"], None if road is by_manager else timeout)
                assert found == self.serialized(name)
            elif road is by_manager:
                assert found == self.serialized(name)
            else:
                assert statements.count <= 2
                self.check_refusal(found, "AlreadyLockedError", name, row)

    def _is_not_locked_unsaved(self, name):
        thing = THINGS[name]
        message = f"This {thing.label} is unsaved, so it cannot be locked. Save it first."
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            LockableModel.lock(thing.instance(adding=True))

    @rule(name=names, holder=holders, pick=picks, timeout=timeouts, ending=endings)
    def renew(self, name, holder, pick, timeout, ending):
        with self.step(ending, holder):
            obj, token = THINGS[name].instance(), self.token(name, holder, pick)
            with Statements() as statements:
                found = outcome(lambda: LockableModel.lock(obj, token, timeout))
            assert statements.count <= 1
            if self.locks.is_valid(name, token):
                self.renewed(name, timeout)
                assert found == self.serialized(name)
            else:
                self.check_refusal(found, "InvalidToken", name)

    @rule(name=names, holder=holders, pick=picks, ending=endings)
    def unlock(self, name, holder, pick, ending):
        with self.step(ending, holder):
            obj, token = THINGS[name].instance(), self.token(name, holder, pick)
            with Statements() as statements:
                found = outcome(lambda: LockableModel.unlock(obj, token))
            assert statements.count <= 1
            if self.locks.is_valid(name, token):
                assert found is None
                del self.locks[name]
            else:
                self.check_refusal(found, "UnlockForbiddenError", name)

    @rule(name=names, holder=holders, pick=picks)
    def check(self, name, holder, pick):
        with self.step("autocommit", holder) as now:
            token = self.token(name, holder, pick)
            with Statements() as statements, warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                found = LockableModel.check_lock(THINGS[name].instance(), token)
            assert statements.count <= 1
            assert found is self.locks.is_valid(name, token)
            warned = [(each.category, str(each.message)) for each in caught]
            if name not in self.locks:
                assert warned == [(NoLockWarning, "The object is not locked.")]
            elif found and not self.locks.is_live(name, now):
                assert warned == [(LockExpiredWarning, "The lock has expired.")]
            else:
                assert warned == []

    @rule(name=names, holder=holders)
    def ask(self, name, holder):
        """Ask by every road which locks there are."""
        with self.step("autocommit", holder) as now:
            live = {row.token for each, row in self.locks.items() if self.locks.is_live(each, now)}
            known = {row.token for row in self.locks.values()}
            obj, row = THINGS[name].instance(), self.locks.get(name)
            is_live = self.locks.is_live(name, now)
            with Statements() as statements:
                assert LockableModel.is_locked(obj) is is_live
            assert statements.count <= 1
            assert self._finds(obj, allow_expired=True) is (row is not None)
            assert self._finds(obj, allow_expired=False) is is_live
            assert {lock.token_str for lock in LockToken.objects.live()} == live
            assert {lock.token_str for lock in LockToken.objects.expired()} == known - live
            found = LockToken.objects.for_objects([obj])
            assert [lock.token_str for lock in found.values()] == ([row.token] if row else [])

    def _finds(self, obj, *, allow_expired):
        try:
            LockToken.objects.get_for_object(obj, allow_expired=allow_expired)
        except LockToken.DoesNotExist:
            return False
        return True

    @precondition(lambda self: self.locks)
    @rule(target=instances, data=st.data())
    def read_the_row(self, data):
        name = data.draw(st.sampled_from(sorted(self.locks)))
        lock = LockToken.objects.get_for_object(THINGS[name].instance())
        assert lock.has_expired() is not self.locks.is_live(name, self.clock())
        assert lock.get_expiration_datetime() == self.locks[name].expires_at
        return name, lock

    @rule(
        known=instances,
        seconds=st.sampled_from([-200, -30, 0, 10]),
        renews=st.booleans(),
        holder=holders,
        ending=endings,
    )
    def use_the_row(self, known, seconds, renews, holder, ending):
        """Renew a lock by its row that was read some time ago, or save it with its time moved."""
        name, lock = known
        with self.step(ending, holder) as now:
            if not renews:
                lock.locked_at = now + timedelta(seconds=seconds)
            found = outcome(lock.renew if renews else lock.save)
            if not self.locks.is_valid(name, lock.token_str):
                assert type(found) is InvalidToken
                assert found.model_label == THINGS[name].label
                return
            assert found is None
            moment = now if renews else lock.locked_at
            self.locks[name] = Row(lock.token_str, moment, lock.timeout)
            assert lock.locked_at == moment

    @rule(
        name=names,
        holder=holders,
        presented=st.lists(picks, max_size=2),
        road=st.sampled_from(list(ROADS)),
        ending=endings,
    )
    def write(self, name, holder, presented, road, ending):
        value = self.new_value()
        if name not in self.contents:
            # A save of what was read before it was deleted does not bring it back.
            road = by_save
        with self.step(ending, holder) as now:
            tokens, found, statements = self._presenting(
                name, holder, presented, partial(road, THINGS[name], value)
            )
            if refusal := self.refusal(name, tokens, now):
                row = self.locks[name] if refusal == "ObjectLocked" else None
                self.check_refusal(found, refusal, name, row)
                return
            assert found is None
            before = self.locks[name]
            self.wrote(name, value, now)
            renewals = int(self.locks[name] != before)
            assert statements <= sum(ROADS[road]) + renewals + may_be_spelt_differently(name)

    def _presenting(self, name, holder, presented, call):
        tokens = [self.token(name, holder, pick) for pick in presented]
        with Statements() as statements:
            if tokens:
                with holding(*tokens):
                    found = outcome(call)
            else:
                found = outcome(call)
        return tokens, found, statements.count

    @precondition(lambda self: self.contents)
    @rule(
        data=st.data(),
        holder=holders,
        presented=st.lists(picks, max_size=2),
        by_query=st.booleans(),
        ending=endings,
    )
    def delete(self, data, holder, presented, by_query, ending):
        name = data.draw(st.sampled_from(sorted(self.contents)))
        with self.step(ending, holder) as now:
            found = THINGS[name].rows if by_query else THINGS[name].rows.get()
            tokens, found, _ = self._presenting(name, holder, presented, found.delete)
            if refusal := self.refusal(name, tokens, now):
                row = self.locks[name] if refusal == "ObjectLocked" else None
                self.check_refusal(found, refusal, name, row)
            else:
                assert found[0] == 1
                self.forget(name)

    @precondition(lambda self: self.contents)
    @rule(data=st.data(), holder=holders, presented=st.lists(picks, max_size=1), ending=endings)
    def write_under_a_lock_for_the_purpose(self, data, holder, presented, ending):
        name = data.draw(st.sampled_from(sorted(self.contents)))
        value = self.new_value()
        with self.step(ending, holder) as now:
            thing, row = THINGS[name], self.locks.get(name)

            def write():
                with locked(thing.instance()) as token:
                    by_save(thing, value)
                return token

            tokens, found, _ = self._presenting(name, holder, presented, write)
            if any(self.locks.is_valid(name, token) for token in tokens):
                assert found == row.token
                self.contents[name] = value
                self.renewed(name)
            elif self.locks.is_live(name, now):
                self.check_refusal(found, "AlreadyLockedError", name, row)
            else:
                # Whatever lock there was is gone, and so is the one that was taken.
                self.contents[name] = value
                self.memory[holder][name].append(found)
                self.locks.pop(name, None)


@pytest.fixture
def life(monkeypatch, settings):
    """Return what makes a machine in a world of its own."""
    with world(monkeypatch, settings) as clock:
        yield partial(PythonLife, clock)


def test_a_lock_lives_as_the_model_says(life):
    live(life, examples=40, steps=60)


MUTANTS = [
    releases_with_any_token,
    takes_what_has_not_expired,
    never_takes_over,
    takes_over_in_place,
    renews_what_is_gone,
    forgets_what_has_expired,
    writes_with_any_token,
    writes_what_is_free,
    leaves_the_lock_of_what_is_deleted,
    removes_what_was_expired_when_it_looked,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_package_that_keeps_one_promise_less_is_found_out(life, monkeypatch, mutant):
    mutant(monkeypatch)
    # Not by the statements that it needs.
    monkeypatch.setattr(Statements, "__call__", lambda self, execute, *args: execute(*args))
    with pytest.raises(AssertionError):
        live_until_it_fails(life, examples=2000, steps=60)


def test_a_statement_too_many_is_found_out(life, monkeypatch):
    read = locking.read
    monkeypatch.setattr(
        locking, "read", lambda target, **options: read(target) and read(target, **options)
    )
    with pytest.raises(AssertionError):
        live_until_it_fails(life, examples=2000, steps=60)
