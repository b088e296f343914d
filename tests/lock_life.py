"""The life of a lock: a model that is small enough to be believed, and what happens to every lock.

``Locks`` is the model. ``LockLife`` has what befalls locks whatever road their takers use: time
passes, objects come and go, locks are broken and expired ones removed. Its subclasses add the
takers, and after each step the database is compared with the model.
"""

import os
import re
from collections import defaultdict
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import reduce
from io import StringIO
from typing import Any, NamedTuple

from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.backends.signals import connection_created
from django.db.models import Model, QuerySet, Value
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lock_tokens import batches, locking, verdicts
from lock_tokens.enforcement import guard, suspended
from lock_tokens.exceptions import AlreadyLockedError, InvalidToken
from lock_tokens.management.commands import remove_expired_locks
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.targets import target_of
from tests.app.models import Article, Line, Slug
from tests.race.players import before


class Row(NamedTuple):
    token: str
    locked_at: datetime
    timeout: int

    @property
    def expires_at(self):
        return self.locked_at + timedelta(seconds=self.timeout)


class Locks(dict):
    """The model: which row each object has."""

    def is_live(self, name, now):
        return name in self and now < self[name].expires_at

    def is_valid(self, name, token):
        return name in self and self[name].token == token


class Thing(NamedTuple):
    """An object that is locked: its key, the field that is written, its model's timeout."""

    model: type[Model]
    key: dict[str, Any]
    pk: Any
    text: str
    field: str
    timeout: int

    @property
    def label(self):
        return self.model._meta.label

    @property
    def rows(self):
        return self.model.objects.filter(**self.key)

    def create(self, value):
        self.model.objects.create(**self.key, **{self.field: value})

    def instance(self, *, adding=False):
        """Return an instance as somebody may have it who read the row before it was deleted."""
        instance = self.model(**self.key)
        instance._state.adding = adding
        return instance


THINGS = {
    "article": Thing(Article, {"id": 1}, 1, "1", "title", 100),
    "slug": Thing(Slug, {"slug": "A/b c"}, "A/b c", "A/b c", "name", 40),
    "line": Thing(Line, {"order": 1, "number": 2}, (1, 2), "[1, 2]", "text", 100),
}
HOLDERS = ["Alice", "Bob", "Carol"]
LOCK_TOKENS = {
    "TIMEOUT": 100,
    "ENFORCED_MODELS": {"app.Article": {}, "app.Slug": {"TIMEOUT": 40}, "app.Line": {}},
    "API_MODELS": ["app.Article", "app.Slug", "app.Line"],
}
# One query for what is in the field of every object.
CONTENTS = reduce(
    QuerySet.union,
    (thing.model.objects.values_list(Value(name), thing.field) for name, thing in THINGS.items()),
)
START = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
NEVER_GIVEN = "0" * 32

names = st.sampled_from(list(THINGS))
holders = st.sampled_from(HOLDERS)
endings = st.sampled_from(["autocommit"] * 4 + ["commit", "commit", "rollback"])
# A holder presents the newest token it got for the object, an older one, or one it got for
# another object; or what no lock ever had; or what it learnt of the valid one.
picks = st.tuples(
    st.sampled_from(["valid"] * 4 + ["newest"] * 2 + ["older", "foreign", "unknown", "near"]),
    st.integers(0, 9),
)
GARBAGE = [NEVER_GIVEN, "x", "'", "%s", "\x00", "ü" * 32, "a" * 500, "\ud800"]
# Time goes back a little when a clock is set.
STEPS = [0.25, 1, 15, 30, 45, 100, 1000, -0.25, -10]
SKEWS = [0, 0.5, 30, -30, -300]


class Clock:
    """The package's notion of now: one time, which everybody's clock shows with an error."""

    moment = START
    skew = timedelta(0)

    def __call__(self):
        return self.moment + self.skew


# Thousands of short transactions that need not outlive a crash. MariaDB has no such option.
IN_A_HURRY = {
    "sqlite": "PRAGMA synchronous = OFF",
    "postgresql": "SET synchronous_commit = OFF",
}


def hurry(connection, **kwargs):
    """Receive ``connection_created``."""
    if connection.vendor in IN_A_HURRY:
        with connection.cursor() as cursor:
            cursor.execute(IN_A_HURRY[connection.vendor])


@contextmanager
def world(monkeypatch, settings):
    """Yield the clock of a world in which all that is in ``THINGS`` is enforced."""
    settings.LOCK_TOKENS = LOCK_TOKENS
    clock = Clock()
    monkeypatch.setattr(locking, "now", clock)
    connection_created.connect(hurry)
    connection.close()
    try:
        yield clock
    finally:
        connection_created.disconnect(hurry)
        connection.close()


def live(machine, *, examples, steps):
    """Run ``machine`` on the same examples every time, or on ``LOCK_LIFE_EXAMPLES`` new ones.

    Only the new ones are cut down to what it takes to fail: that may take minutes.
    """
    wanted = os.environ.get("LOCK_LIFE_EXAMPLES")
    phases = [Phase.generate, Phase.shrink] if wanted else [Phase.generate]
    _run(machine, int(wanted or examples), steps, derandomize=not wanted, phases=phases)


def live_until_it_fails(machine, *, examples, steps):
    """Run ``machine`` only to see it fail: what it takes to fail is of no interest.

    Give it many ``examples``: it ends with the first that fails, and which these are depends on
    the constants of all modules that happen to be imported.
    """
    _run(machine, examples, steps, derandomize=True, phases=[Phase.generate], print_blob=False)


def _run(machine, examples, steps, **options):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            **options,
        ),
    )


# Packages that keep one promise less.


def releases_with_any_token(monkeypatch):
    monkeypatch.setattr(locking, "release", lambda target, token: bool(locking.remove(target)))


def takes_what_has_not_expired(monkeypatch):
    insert = locking.insert

    def mutant(target, new):
        locking.remove(target)
        return insert(target, new)

    monkeypatch.setattr(locking, "insert", mutant)


def never_takes_over(monkeypatch):
    insert = locking.insert

    def mutant(target, new):
        if lock := locking.read(target):
            raise AlreadyLockedError(model_label=target.label, pk=target.pk, lock=lock.facts())
        return insert(target, new)

    monkeypatch.setattr(locking, "insert", mutant)


def takes_over_in_place(monkeypatch):
    insert = locking.insert

    def mutant(target, new):
        expired = LockToken.objects.expired().filter(
            locked_object_content_type=target.content_type_id, locked_object_id=target.key
        )
        values = {"token_str": new.token, "locked_at": new.locked_at, "timeout": new.timeout}
        if not expired.update(**values):
            return insert(target, new)
        return locking.read(target)

    monkeypatch.setattr(locking, "insert", mutant)


def renews_what_is_gone(monkeypatch):
    renew = locking.renew

    def mutant(target, token, *, timeout=None):
        try:
            return renew(target, token, timeout=timeout)
        except InvalidToken:
            if not locking.is_token(token) or len(token) != 32 or locking.read(target):
                raise
            seconds = locking.lease_seconds(target, timeout)
            return locking.insert(target, locking.NewLock(token, locking.now(), seconds))

    monkeypatch.setattr(locking, "renew", mutant)


def forgets_what_has_expired(monkeypatch):
    matches, allows = locking.Lock.matches, verdicts.allows
    monkeypatch.setattr(
        locking.Lock,
        "matches",
        lambda lock, tokens: not lock.has_expired() and matches(lock, tokens),
    )
    monkeypatch.setattr(
        verdicts, "allows", lambda lock, tokens: not lock.has_expired() and allows(lock, tokens)
    )


def writes_with_any_token(monkeypatch):
    monkeypatch.setattr(verdicts, "allows", lambda lock, tokens: bool(lock and tokens))


def writes_what_is_free(monkeypatch):
    monkeypatch.setattr(guard, "_respects", lambda subject, state: True)


def leaves_the_lock_of_what_is_deleted(monkeypatch):
    monkeypatch.setattr(batches, "remove", lambda targets: None)


def removes_what_was_expired_when_it_looked(monkeypatch):
    def mutant(self, locks, size):
        expired = list(locks.values_list("pk", flat=True))
        return LockToken.objects.filter(pk__in=expired)._raw_delete(locks.db) or 0

    monkeypatch.setattr(remove_expired_locks.Command, "_remove", mutant)


class LockLife(RuleBasedStateMachine):
    def __init__(self, clock):
        super().__init__()
        self.clock = clock
        clock.moment, clock.skew = START, timedelta(0)
        self.locks = Locks()
        # What each object has in its field; what was deleted is not there.
        self.contents = {}
        self.written = 0
        # Every token that a holder ever got, by object.
        self.memory = {holder: defaultdict(list) for holder in HOLDERS}
        self.last_seen = {}
        self.dead = defaultdict(set)
        self.highest_id = defaultdict(int)
        self._begin()

    @transaction.atomic
    def _begin(self):
        with suspended(reason="a new example begins"):
            for thing in THINGS.values():
                thing.model.objects.all().delete()
        LockToken.objects.all().delete()
        self.names = {}
        for name, thing in THINGS.items():
            target = target_of(thing.instance())
            self.names[target.content_type_id, target.key] = name
            self._create(name)

    def _create(self, name):
        value = self.new_value()
        THINGS[name].create(value)
        self.contents[name] = value

    def new_value(self):
        self.written += 1
        return str(self.written)

    @initialize(
        skews=st.fixed_dictionaries(dict.fromkeys(HOLDERS, st.sampled_from(SKEWS))),
        taken=st.fixed_dictionaries(dict.fromkeys(THINGS, st.sampled_from([None, *HOLDERS]))),
    )
    def begin(self, skews, taken):
        self.skews = {holder: timedelta(seconds=skew) for holder, skew in skews.items()}
        for name, holder in taken.items():
            if holder:
                token = LockableModel.lock(THINGS[name].instance())["token"]
                self.granted(name, holder, token, None)

    @contextmanager
    def step(self, ending, holder=None):
        """Do what is inside by the clock of ``holder``, in a transaction that ends as told."""
        self.clock.skew = self.skews[holder] if holder else timedelta(0)
        if ending == "autocommit":
            yield self.clock()
            return
        earlier = Locks(self.locks), dict(self.contents)
        with transaction.atomic():
            yield self.clock()
            # Also after a refusal the transaction is usable.
            self.compare()
            if ending == "rollback":
                transaction.set_rollback(True)
                self.locks, self.contents = earlier

    def token(self, name, holder, pick):
        """Return the token that ``holder`` presents for the object."""
        kind, number = pick
        known = self.memory[holder][name]
        valid = self.locks[name].token if name in self.locks else NEVER_GIVEN
        if kind == "valid":
            return valid
        if kind == "near":
            return [valid.upper(), valid + " ", valid[:-1], " " + valid, valid * 2][number % 5]
        if kind == "foreign":
            known = [token for other in THINGS if other != name for token in self.got(other)]
        if kind == "unknown" or not known:
            return GARBAGE[number % len(GARBAGE)]
        return known[-1] if kind == "newest" else known[number % len(known)]

    def got(self, name):
        return [token for tokens in self.memory.values() for token in tokens[name]]

    def granted(self, name, holder, token, timeout):
        """Note that ``holder`` got the lock."""
        assert re.fullmatch("[0-9a-f]{32}", token)
        assert token not in self.got(name)
        self.memory[holder][name].append(token)
        self.locks[name] = Row(token, self.clock(), timeout or THINGS[name].timeout)

    def serialized(self, name):
        row = self.locks[name]
        return {"token": row.token, "expires": f"{row.expires_at:%Y-%m-%d %H:%M:%S} UTC"}

    def renewed(self, name, timeout=None):
        row = self.locks[name]
        self.locks[name] = Row(row.token, self.clock(), timeout or row.timeout)

    def refusal(self, name, tokens, now):
        """Return the name of the error that a write meets, ``None`` if it is to be allowed."""
        if any(self.locks.is_valid(name, token) for token in tokens):
            return None
        if self.locks.is_live(name, now):
            return "ObjectLocked"
        of_others = {row.token for other, row in self.locks.items() if other != name}
        return "StaleToken" if set(tokens) - of_others else "LockRequired"

    def wrote(self, name, value, now):
        """Note a write with the valid token, which renews a lock with half its time behind it."""
        self.contents[name] = value
        row = self.locks[name]
        if row.expires_at - now < timedelta(seconds=row.timeout) / 2:
            self.renewed(name)

    def forget(self, name):
        """Note that the object was deleted: its lock went with it."""
        del self.contents[name]
        self.locks.pop(name, None)

    @rule(
        seconds=st.sampled_from(STEPS),
        to_the_end_of=st.none() | names,
        holder=holders,
        microseconds=st.sampled_from([-1, 0, 1]),
    )
    def tick(self, seconds, to_the_end_of, holder, microseconds):
        """Let time pass, or go to where a lock ends just now by the clock of ``holder``."""
        if to_the_end_of in self.locks:
            end = self.locks[to_the_end_of].expires_at + timedelta(microseconds=microseconds)
            self.clock.moment = end - self.skews[holder]
        else:
            self.clock.moment += timedelta(seconds=seconds)

    @rule(name=names, ending=endings, by_query=st.booleans())
    def delete_without_a_lock_or_create_again(self, name, ending, by_query):
        with self.step(ending), suspended(reason="an example"):
            if name not in self.contents:
                self._create(name)
                return
            self.forget(name)
            rows = THINGS[name].rows
            if by_query:
                rows.delete()
            else:
                rows.get().delete()

    @rule(name=names, ending=endings, by_command=st.booleans())
    def break_lock(self, name, ending, by_command):
        with self.step(ending):
            found = self.locks.pop(name, None)
            if by_command:
                self._break_by_command(THINGS[name], found)
                return
            broken = LockToken.objects.break_lock(THINGS[name].instance(), reason="an example")
            assert broken is (found is not None)

    def _break_by_command(self, thing, found):
        of = f"{thing.label} {target_of(thing.instance()).key}"
        try:
            said = said_by("break_lock", thing.label, thing.text, reason="an example")
        except CommandError as error:
            said = str(error)
        assert said == (f"Broke the lock of {of}.\n" if found else f"{of} is not locked.")

    @rule(
        ending=endings,
        older_than=st.sampled_from([0, 0, 30, 1000]),
        batch_size=st.sampled_from([1, 1000]),
        dry_run=st.booleans(),
    )
    def remove_expired_locks(self, ending, older_than, batch_size, dry_run):
        options = {"older_than": older_than, "batch_size": batch_size, "dry_run": dry_run}
        with self.step(ending) as now:
            expired = self.expired(now - timedelta(seconds=older_than))
            said = said_by("remove_expired_locks", **options)
            if dry_run:
                assert said == f"{len(expired)} expired locks would be removed.\n"
                return
            assert said == f"Successfully removed {len(expired)} expired locks.\n"
            for name in expired:
                del self.locks[name]

    @precondition(lambda self: self.expired(self.clock.moment))
    @rule(data=st.data())
    def remove_expired_locks_while_one_is_renewed(self, data):
        with self.step("autocommit") as now:
            expired = self.expired(now)
            name = data.draw(st.sampled_from(expired))
            obj, row = THINGS[name].instance(), self.locks[name]
            with before("DELETE", lambda: LockableModel.lock(obj, row.token)):
                said_by("remove_expired_locks")
            for each in expired:
                del self.locks[each]
            self.locks[name] = Row(row.token, now, row.timeout)

    def expired(self, now):
        return sorted(name for name in self.locks if not self.locks.is_live(name, now))

    @invariant()
    def is_as_the_model_says(self):
        self.compare()
        for name in THINGS:
            self._witness(name)

    def compare(self):
        """Compare what is stored with the model."""
        rows = LockToken.objects.values_list(
            "locked_object_content_type_id",
            "locked_object_id",
            "token_str",
            "locked_at",
            "timeout",
            "expires_at",
            "created",
            "id",
        )
        self.stored, self.created = {}, {}
        for type_, key, token, locked_at, timeout, expires_at, created, id_ in rows:
            name, row = self.names[type_, key], Row(token, locked_at, timeout)
            assert name not in self.stored, "an object has two locks"
            assert expires_at == row.expires_at
            self.stored[name] = (id_, token)
            self.created[name] = created
            assert self.locks.get(name) == row
        assert self.stored.keys() == self.locks.keys()
        assert dict(CONTENTS.all()) == self.contents

    def _witness(self, name):
        """Whatever the model says: a token that was seen to go is gone, and ids only rise."""
        seen, last = self.stored.get(name), self.last_seen.get(name)
        if seen == last:
            return
        if last:
            self.dead[name].add(last[1])
        if seen:
            assert seen[1] not in self.dead[name], "a stale token is valid again"
            assert seen[0] > self.highest_id[name], "a newer lock has a lower id"
            self.highest_id[name] = seen[0]
        self.last_seen[name] = seen


def said_by(command, *args, **options):
    out = StringIO()
    call_command(command, *args, stdout=out, no_color=True, **options)
    return out.getvalue()
