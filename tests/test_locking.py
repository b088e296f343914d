"""Expiry to the microsecond, and refusals that leave the surrounding transaction usable."""

from datetime import datetime, timedelta, timezone

import pytest
from django.contrib.auth.models import Group
from django.db import OperationalError, connection, transaction
from django.db.transaction import TransactionManagementError
from django.test.utils import CaptureQueriesContext
from django.utils import timezone as django_timezone
from freezegun import freeze_time

from lock_tokens import locking
from lock_tokens.exceptions import AlreadyLockedError, InvalidToken, UnlockForbiddenError
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.targets import target_of
from tests.app.models import Article

MICROSECOND = timedelta(microseconds=1)
MOMENTS = [
    datetime(2026, 3, 1, 12, 0, 0, 0, timezone.utc),
    datetime(2026, 3, 1, 12, 0, 0, 1, timezone.utc),
    datetime(2026, 3, 1, 12, 0, 0, 100000, timezone.utc),
    datetime(2026, 12, 31, 23, 59, 59, 999999, timezone.utc),
    # Chicago, the time zone of the tests, turns its clocks at 08:00 and at 07:00 UTC.
    datetime(2026, 3, 8, 7, 59, 59, 5, timezone.utc),
    datetime(2026, 11, 1, 6, 59, 59, 5, timezone.utc),
    datetime(2028, 2, 28, 23, 59, 59, 123456, timezone.utc),
]


@pytest.mark.django_db
class TestExpiry:
    @pytest.fixture(params=MOMENTS, ids=str)
    def moment(self, request):
        return request.param

    @pytest.fixture(params=[1, 60, 3600, 100 * 24 * 3600])
    def timeout(self, request):
        return request.param

    def verdicts(self, article):
        """Return everybody's opinion on whether the lock has expired."""
        row = LockToken.objects.get_for_object(article)
        return {
            row.has_expired(),
            locking.read(target_of(article)).has_expired(),
            not LockableModel.is_locked(article),
            not LockToken.objects.live().exists(),
            LockToken.objects.expired().exists(),
            not LockToken.objects.filter(expires_at__gt=django_timezone.now()).exists(),
        }

    def test_a_lock_is_live_until_the_last_microsecond_and_expired_from_the_instant(
        self, article, moment, timeout
    ):
        with freeze_time(moment) as clock:
            LockableModel.lock(article, timeout=timeout)
            row = LockToken.objects.get()
            end = moment + timedelta(seconds=timeout)
            assert row.expires_at == row.get_expiration_datetime() == end

            clock.move_to(end - MICROSECOND)
            assert self.verdicts(article) == {False}
            with pytest.raises(AlreadyLockedError):
                LockableModel.lock(article)

            clock.move_to(end)
            assert self.verdicts(article) == {True}
            LockableModel.lock(article)

    @pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "Pacific/Apia"])
    def test_the_time_zone_of_the_project_does_not_matter(self, article, settings, zone):
        settings.TIME_ZONE = zone
        with freeze_time(MOMENTS[3]) as clock:
            LockableModel.lock(article, timeout=60)
            clock.tick(timedelta(seconds=60) - MICROSECOND)
            assert self.verdicts(article) == {False}
            clock.tick(MICROSECOND)
            assert self.verdicts(article) == {True}

    def test_without_time_zones_it_is_as_exact(self, article, settings):
        settings.USE_TZ = False
        with freeze_time(MOMENTS[3]) as clock:
            token = LockableModel.lock(article, timeout=60)["token"]
            row = LockToken.objects.get()
            assert row.locked_at == datetime(2026, 12, 31, 23, 59, 59, 999999)
            assert row.expires_at == row.get_expiration_datetime()
            assert row.expires_at == datetime(2027, 1, 1, 0, 0, 59, 999999)

            clock.tick(timedelta(seconds=60) - MICROSECOND)
            assert self.verdicts(article) == {False}
            clock.tick(MICROSECOND)
            assert self.verdicts(article) == {True}
            LockableModel.lock(article, token)
            assert self.verdicts(article) == {False}

    def test_a_renewal_counts_from_the_renewal(self, article, moment):
        with freeze_time(moment) as clock:
            token = LockableModel.lock(article, timeout=60)["token"]
            clock.tick(59)
            LockableModel.lock(article, token)
            clock.tick(timedelta(seconds=60) - MICROSECOND)
            assert self.verdicts(article) == {False}
            clock.tick(MICROSECOND)
            assert self.verdicts(article) == {True}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("format", "expires"),
    [
        ("%Y-%m-%d %H:%M:%S %Z", "2026-03-01 13:00:00 UTC"),
        ("%d.%m.%Y um %H:%M", "01.03.2026 um 13:00"),
    ],
)
@freeze_time(MOMENTS[0])
def test_dateformat_says_how_expires_is_written(article, settings, format, expires):
    settings.LOCK_TOKENS = {"DATEFORMAT": format}
    result = LockableModel.lock(article)
    assert result["expires"] == LockToken.objects.get().serialize()["expires"] == expires


@pytest.mark.django_db(transaction=True)
class TestInATransaction:
    """Real transactions: what a refusal breaks here is broken for users."""

    @pytest.fixture
    def stale(self, article, lock):
        """A token that is stale because the object was locked anew."""
        stale = lock(article)
        LockableModel.unlock(article, stale)
        lock(article)
        return stale

    @pytest.mark.parametrize(
        ("refused", "error"),
        [
            (lambda article, stale: LockableModel.lock(article), AlreadyLockedError),
            (lambda article, stale: LockableModel.lock(article, stale), InvalidToken),
            (lambda article, stale: LockableModel.unlock(article, stale), UnlockForbiddenError),
            (
                lambda article, stale: LockToken.objects.create(locked_object=article),
                AlreadyLockedError,
            ),
        ],
    )
    def test_a_refusal_leaves_it_usable_and_it_commits(self, article, stale, refused, error):
        with transaction.atomic():
            Group.objects.create(name="before")
            with pytest.raises(error):
                refused(article, stale)
            Group.objects.create(name="after")

        connection.close()
        assert set(Group.objects.values_list("name", flat=True)) == {"before", "after"}

    def test_only_taking_a_lock_opens_a_savepoint_and_only_where_it_could_time_out(
        self, article, stale
    ):
        def refused(error, call, *args):
            with pytest.raises(error):
                call(*args)

        with transaction.atomic(), CaptureQueriesContext(connection) as captured:
            refused(AlreadyLockedError, LockableModel.lock, article)
            refused(InvalidToken, LockableModel.lock, article, stale)
            refused(UnlockForbiddenError, LockableModel.unlock, article, stale)
            LockToken.objects.update(locked_at=django_timezone.now() - timedelta(days=1))
            token = LockableModel.lock(article)["token"]
            LockableModel.lock(article, token)
            LockableModel.check_lock(article, token)
            LockableModel.is_locked(article)
            LockToken.objects.get().renew()
            LockToken.objects.get_or_create_for_object(article)
            LockableModel.unlock(article, token)
            LockableModel.lock(article)
            LockToken.objects.break_lock(article)
            LockToken.objects.create(locked_object=article).save()
        with (
            transaction.atomic(),
            CaptureQueriesContext(connection) as control,
            transaction.atomic(),
        ):
            pass

        assert len(captured) > 15
        sql = [query["sql"] for query in captured]
        taken = sum("INSERT" in each for each in sql) if connection.vendor == "postgresql" else 0
        assert sum(each.startswith("SAVEPOINT") for each in sql) == taken
        assert sum(each.startswith("RELEASE SAVEPOINT") for each in sql) == taken
        assert [query for query in control if "SAVEPOINT" in query["sql"]]

    def test_a_rollback_takes_the_lock_back(self, article):
        def take_and_fail():
            with transaction.atomic():
                LockableModel.lock(article)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            take_and_fail()
        assert not LockToken.objects.exists()


class TestDeadlock:
    """MariaDB ends a deadlock by undoing one of its parties; the others go on."""

    class Fails:
        """Stands where the database would give up, and does so ``times`` times."""

        def __init__(self, times, code=1213):
            self.times = times
            self.code = code

        def __call__(self, execute, sql, params, many, context):
            if self.times and "lock_tokens_locktoken" in sql:
                self.times -= 1
                raise OperationalError(self.code, "Deadlock found")
            return execute(sql, params, many, context)

    @pytest.mark.django_db(transaction=True)
    def test_outside_a_transaction_the_statement_is_tried_again(self, article):
        LockableModel.is_locked(article)
        with connection.execute_wrapper(self.Fails(4)):
            token = LockableModel.lock(article)["token"]
        assert LockToken.objects.get().token_str == token

    @pytest.mark.django_db(transaction=True)
    def test_it_is_not_tried_for_ever(self, article):
        with connection.execute_wrapper(self.Fails(5)), pytest.raises(AlreadyLockedError) as caught:
            LockableModel.lock(article)
        assert str(caught.value) == (
            f"app.Article {article.pk} was not locked: a deadlock ended the transaction; "
            "begin anew."
        )

    @pytest.mark.django_db(transaction=True)
    def test_other_errors_are_left_alone(self, article):
        fails = connection.execute_wrapper(self.Fails(1, code=1020))
        with fails, pytest.raises(OperationalError, match="1020"):
            LockableModel.lock(article)

    @pytest.mark.django_db(transaction=True)
    def test_in_a_transaction_nothing_more_is_done_because_all_of_it_was_undone(self, article):
        with transaction.atomic():
            with (
                connection.execute_wrapper(self.Fails(1)),
                pytest.raises(AlreadyLockedError, match="a deadlock ended the transaction"),
            ):
                LockableModel.lock(article)
            with pytest.raises(TransactionManagementError):
                Article.objects.get()


@pytest.mark.django_db
def test_a_lock_that_always_slips_away_is_refused_without_facts(article, lock):
    """Whoever comes between every two statements of ours has it, for all we can tell."""
    target = target_of(article)
    token = locking.acquire(target).token

    class SlipsAway:
        def __call__(self, execute, sql, params, many, context):
            if sql.startswith("SELECT"):
                LockToken.objects.all()._raw_delete("default")
            result = execute(sql, params, many, context)
            if sql.startswith("SELECT"):
                with connection.cursor() as cursor:
                    cursor.execute(
                        "INSERT INTO lock_tokens_locktoken (token_str, "
                        "locked_object_content_type_id, locked_object_id, locked_at, timeout, "
                        "created) VALUES (%s, %s, %s, %s, %s, %s)",
                        [token, target.content_type_id, target.key, *self.times],
                    )
            return result

        now = datetime.now(timezone.utc).replace(tzinfo=None)
        times = (str(now), 60, str(now))

    with connection.execute_wrapper(SlipsAway()), pytest.raises(AlreadyLockedError) as caught:
        locking.acquire(target)
    if connection.vendor == "mysql":
        # The insertion itself returns what is in its way.
        assert caught.value.lock is not None
        return
    assert caught.value.lock is None
    assert str(caught.value) == (
        f"app.Article {article.pk} is already locked; try again when it is free."
    )


@pytest.mark.parametrize(
    ("expected", "given", "same"),
    [
        ("a" * 32, "a" * 32, True),
        ("a" * 32, "A" * 32, False),
        ("a" * 32, "a" * 31, False),
        ("a" * 32, b"a" * 32, False),
        ("a" * 32, None, False),
        ("a" * 32, "é", False),
    ],
)
def test_tokens_are_the_same_only_if_they_are(expected, given, same):
    assert locking.same_token(expected, given) is same


@pytest.mark.django_db
def test_every_presented_token_is_compared_whichever_matches(article, monkeypatch):
    lock = locking.acquire(target_of(article))
    compared = []
    compare = locking.same_token
    monkeypatch.setattr(
        locking, "same_token", lambda *pair: compared.append(pair) or compare(*pair)
    )
    assert lock.matches([lock.token, "0" * 32, "1" * 32]) is True
    assert lock.matches(["0" * 32, "1" * 32, "2" * 32]) is False
    assert len(compared) == 6


@pytest.mark.django_db
def test_a_lock_shows_no_token_when_it_is_printed(article):
    lock = locking.acquire(target_of(article))
    assert lock.token not in repr(lock)


@pytest.mark.django_db
def test_locks_of_articles_do_not_depend_on_who_else_has_locks():
    first, second = (Article.objects.create(title=title) for title in "ab")
    one, other = locking.acquire(target_of(first)), locking.acquire(target_of(second))
    assert locking.release(target_of(first), other.token) is False
    assert locking.release(target_of(first), one.token) is True
    assert locking.read(target_of(second)) == other
