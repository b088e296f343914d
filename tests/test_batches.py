"""The locks of many objects at once: held, reserved, renewed and removed in one statement each."""

from datetime import datetime, timedelta, timezone

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
from freezegun import freeze_time

from lock_tokens import batches, locking
from lock_tokens.exceptions import InvalidToken
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.signals import lock_renewed, object_locked, object_unlocked
from lock_tokens.statements import ONE_PER_OBJECT, batch_statements_for
from lock_tokens.targets import target_for, target_of
from tests.app.models import Article, Page, Slug, Uuid

pytestmark = pytest.mark.django_db

TOMORROW = datetime.now(timezone.utc) + timedelta(days=1)
# Keys that sort, compare or quote differently here and there.
KEYS = ["a", "A", "a ", "é", "%s", "'", '"', "\\", "[]", "10", "9", "A/b c"]


def targets_of(objects):
    return [target_of(obj) for obj in objects]


@pytest.fixture
def articles():
    return [Article.objects.create(title="a") for _ in range(5)]


@pytest.fixture
def targets(articles):
    return targets_of(articles)


class TestOrder:
    def test_is_one_whatever_the_order_of_the_question(self, targets):
        assert batches.in_order(targets) == batches.in_order(reversed(targets))

    def test_names_each_target_once(self, targets):
        assert len(batches.in_order([*targets, *targets])) == 5

    def test_is_that_in_which_postgresql_locks_the_rows(self):
        """Whatever the collation of the database, and whatever order they were made in."""
        wanted = [target_for(Slug, key, "default") for key in KEYS]
        for target in reversed(wanted):
            locking.acquire(target)
        found = batches.hold(wanted)
        assert set(found) == set(wanted)
        if connection.vendor == "postgresql":
            assert list(found) == batches.in_order(wanted)


class TestHold:
    def test_returns_the_locks_there_are(self, articles, targets, lock):
        tokens = {target_of(obj): lock(obj) for obj in articles[::2]}
        assert {t: found.token for t, found in batches.hold(targets).items()} == tokens

    def test_tells_apart_models_and_keys_that_look_alike(self):
        wanted = [target_for(model, 7, "default") for model in (Article, Page)]
        wanted += [target_for(Slug, key, "default") for key in KEYS]
        locks = {target: locking.acquire(target).token for target in wanted[1::2]}
        assert {target: row.token for target, row in batches.hold(wanted).items()} == locks

    def test_knows_when_they_expire_and_who_holds_them(self, articles, alice):
        target = target_of(articles[0])
        locking.acquire(target, timeout=7, by=alice.pk)
        locking.acquire(target_of(articles[1]))
        found = batches.hold(targets_of(articles))[target]
        assert found == locking.read(target)
        assert (found.timeout, found.locked_by_id) == (7, alice.pk)

    def test_of_nothing_is_nothing(self, assert_statements):
        with assert_statements(0):
            assert batches.hold([]) == {}

    @pytest.mark.parametrize("count", [1, 2, 500, 5000])
    def test_is_1_statement(self, count, assert_statements):
        ContentType.objects.get_for_model(Article)
        wanted = [target_for(Article, pk, "default") for pk in range(1, count + 1)]
        with assert_statements(1):
            batches.hold(wanted)


class TestReserve:
    def reserve(self, targets):
        found, placed = batches.reserve(targets)
        batches.discard("default", placed)
        return found

    def test_leaves_no_lock(self, targets):
        assert self.reserve(targets) == {}
        assert not LockToken.objects.exists()

    def test_returns_and_keeps_the_locks_there_are(self, articles, targets, lock):
        tokens = {target_of(obj): lock(obj) for obj in articles[::2]}
        found = self.reserve(targets)
        assert {target: row.token for target, row in found.items()} == tokens
        assert LockToken.objects.count() == len(tokens)
        for obj in articles[::2]:
            assert LockableModel.check_lock(obj, tokens[target_of(obj)])

    def test_keeps_an_expired_lock_as_it_was_until_it_is_discarded(self, article, lock):
        token = lock(article)
        with freeze_time(TOMORROW):
            found, placed = batches.reserve([target_of(article)])
            assert placed == []
            row = found[target_of(article)]
            assert row.has_expired()
            assert row.token == token
            batches.discard("default", [row.id])
            with pytest.raises(InvalidToken):
                LockableModel.lock(article, token)
        assert not LockToken.objects.exists()

    def test_says_nothing_to_listeners(self, targets, django_capture_on_commit_callbacks):
        heard = []

        def hear(signal, **kwargs):
            heard.append(signal)

        for signal in (object_locked, object_unlocked):
            signal.connect(hear)
        try:
            with django_capture_on_commit_callbacks(execute=True):
                self.reserve(targets)
        finally:
            for signal in (object_locked, object_unlocked):
                signal.disconnect(hear)
        assert heard == []

    @pytest.mark.parametrize("count", [1, 2, 500, batches.RESERVED_AT_ONCE])
    def test_is_1_statement_and_1_to_discard(self, count, assert_statements):
        ContentType.objects.get_for_model(Article)
        wanted = [target_for(Article, pk, "default") for pk in range(1, count + 1)]
        with assert_statements(2):
            assert self.reserve(wanted) == {}
        assert not LockToken.objects.exists()

    def test_of_more_than_a_statement_can_take_is_several(self, assert_statements):
        ContentType.objects.get_for_model(Article)
        count = batches.RESERVED_AT_ONCE + 1
        wanted = [target_for(Article, pk, "default") for pk in range(1, count + 1)]
        with assert_statements(3):
            assert self.reserve(wanted) == {}
        assert not LockToken.objects.exists()

    def test_of_nothing_is_nothing(self, assert_statements):
        with assert_statements(0):
            assert batches.reserve([]) == ({}, [])
            batches.discard("default", [])


class TestRenew:
    def test_starts_each_lease_anew_for_as_long_as_before(self, articles, targets):
        for index, target in enumerate(targets):
            locking.acquire(target, timeout=60 + index)
        untouched = target_of(Article.objects.create(title="other"))
        before = locking.acquire(untouched)
        with freeze_time(TOMORROW):
            batches.renew(batches.hold(targets))
            for index, target in enumerate(targets):
                lock = locking.read(target)
                assert lock.locked_at == locking.now()
                assert lock.timeout == 60 + index
        assert locking.read(untouched).locked_at == before.locked_at

    def test_is_announced_for_each_on_commit(
        self, articles, targets, lock, django_capture_on_commit_callbacks
    ):
        for obj in articles:
            lock(obj)
        heard = []

        def hear(sender, pk, lock, **kwargs):
            heard.append((sender, pk, lock.since))

        lock_renewed.connect(hear)
        try:
            with freeze_time(TOMORROW), django_capture_on_commit_callbacks(execute=True):
                batches.renew(batches.hold(targets))
                assert heard == []
                now = locking.now()
        finally:
            lock_renewed.disconnect(hear)
        assert sorted(heard, key=str) == sorted(
            [(Article, obj.pk, now) for obj in articles], key=str
        )

    @pytest.mark.parametrize("count", [1, 2, 500])
    def test_is_1_statement(self, count, assert_statements):
        wanted = [target_for(Article, pk, "default") for pk in range(1, count + 1)]
        batches.reserve(wanted)
        held = batches.hold(wanted)
        with assert_statements(1):
            batches.renew(held)

    def test_of_nothing_is_nothing(self, assert_statements):
        with assert_statements(0):
            batches.renew({})


class TestRemove:
    def test_takes_just_those_locks_whoever_holds_them(self, articles, targets, lock):
        objects = [*articles, Slug.objects.create(slug="a"), Uuid.objects.create()]
        others = [Slug.objects.create(slug="b"), Uuid.objects.create()]
        others.append(Page.objects.create(pk=articles[0].pk))
        for obj in [*objects, *others]:
            lock(obj)
        batches.remove(targets_of(objects))
        assert set(LockToken.objects.values_list("locked_object_id", flat=True)) == {
            target_of(obj).key for obj in others
        }

    @pytest.mark.parametrize("count", [1, 2, 500])
    def test_is_1_statement(self, count, assert_statements):
        wanted = [target_for(Article, pk, "default") for pk in range(1, count + 1)]
        batches.reserve(wanted)
        with assert_statements(1):
            batches.remove(wanted)
        assert not LockToken.objects.exists()

    def test_of_nothing_is_nothing(self, assert_statements):
        with assert_statements(0):
            batches.remove([])


# The others lock what they have found, not what they have read.
if connection.vendor == "mysql":

    class TestReading:
        """A row that is only read is locked, too, and out of turn."""

        @pytest.mark.parametrize("locks", [1, 4, 12])
        @pytest.mark.parametrize(
            ("verb", "index"),
            [
                ("hold", ONE_PER_OBJECT),
                ("remove", ONE_PER_OBJECT),
                ("renew", "PRIMARY"),
                ("delete", "PRIMARY"),
            ],
        )
        def test_is_by_index_however_few_rows_there_are(self, locks, verb, index):
            targets = targets_of(Article.objects.create() for _ in range(12))
            for target in targets[:locks]:
                locking.acquire(target)
            keys = {targets[0].content_type_id: [target.key for target in targets]}
            ids = list(range(1, 13)), *(["2026-11-22"] if verb == "renew" else [])
            params = [keys] if index == ONE_PER_OBJECT else ids
            sql, params = getattr(batch_statements_for("mysql"), verb)(*params)
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN {sql}", params)
                columns = [column[0] for column in cursor.description]
                plan = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
            [read] = [step for step in plan if step["table"] == "l"]
            assert (read["type"], read["key"]) == ("eq_ref", index)


@pytest.mark.django_db(transaction=True)
class TestUntilTheTransactionEnds:
    """What another connection can do meanwhile."""

    @pytest.fixture
    def other(self):
        other = connection.copy()
        yield other
        other.close()

    @pytest.fixture
    def waits(self, other):
        """Tell whether a statement on another connection has to wait."""

        def run(sql, params):
            impatient = {
                "postgresql": "SET lock_timeout = '300ms'",
                "mysql": "SET innodb_lock_wait_timeout = 1",
                "sqlite": "PRAGMA busy_timeout = 300",
            }[connection.vendor]
            with other.cursor() as cursor:
                cursor.execute(impatient)
                try:
                    cursor.execute(sql, params)
                except other.Database.OperationalError:
                    return True
                except Exception as error:
                    if "lock" in str(error).lower():
                        return True
                    raise
            return False

        return run

    INSERT = (
        "INSERT INTO lock_tokens_locktoken (token_str, locked_object_content_type_id, "
        "locked_object_id, locked_at, timeout, created) VALUES (%s, %s, %s, %s, 60, %s)"
    )

    def insert(self, target):
        moment = connection.ops.adapt_datetimefield_value(locking.now())
        return self.INSERT, ["0" * 32, target.content_type_id, target.key, moment, moment]

    def test_nobody_locks_what_is_reserved_though_it_is_discarded(self, articles, waits):
        target = target_of(articles[0])
        with transaction.atomic():
            _, placed = batches.reserve([target])
            batches.discard("default", placed)
            assert waits(*self.insert(target))
        assert not waits(*self.insert(target))

    def test_nobody_takes_over_what_is_held(self, articles, waits, lock):
        for obj in articles:
            lock(obj)
        sql = "UPDATE lock_tokens_locktoken SET token_str = %s WHERE locked_object_id = %s"
        params = ["0" * 32, str(articles[-1].pk)]
        with transaction.atomic():
            batches.hold(targets_of(articles))
            assert waits(sql, params)
        assert not waits(sql, params)
