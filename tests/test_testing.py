"""The helpers for the tests of projects do what they say, and nothing of them is left behind."""

import re
from datetime import datetime, timedelta, timezone

import pytest
from asgiref.sync import async_to_sync
from freezegun import freeze_time

from lock_tokens.enforcement import context, holding
from lock_tokens.exceptions import (
    AlreadyLockedError,
    LockRequired,
    ObjectLocked,
    StaleToken,
    WriteRefused,
)
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.testing import assert_write_refused, hold_lock
from tests.app.models import Article

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, timezone.utc)


@pytest.fixture(autouse=True)
def enforced(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"]}


@pytest.fixture
def nothing_leaks():
    state = context.current()
    yield
    assert context.current() is state
    assert not LockToken.objects.exists()


class TroubleError(Exception):
    """What goes wrong in somebody's test."""


@pytest.mark.usefixtures("nothing_leaks")
class TestHoldLock:
    def test_the_object_is_locked_inside_and_free_after(self, any_object):
        with hold_lock(any_object) as token:
            assert LockableModel.is_locked(any_object)
            assert LockableModel.check_lock(any_object, token)
        assert not LockableModel.is_locked(any_object)

    def test_it_is_released_when_the_block_fails(self, article):
        with pytest.raises(TroubleError), hold_lock(article):
            raise TroubleError

    def test_its_token_is_not_in_hand_inside(self, article):
        with hold_lock(article) as token:
            with pytest.raises(ObjectLocked):
                article.save()
            with holding(token):
                article.save()

    def test_the_holder_is_the_user_it_is_given(self, article, alice):
        with hold_lock(article, by=alice):
            assert LockToken.objects.get().locked_by == alice

    def test_the_timeout_is_in_seconds(self, article):
        with freeze_time(NOON), hold_lock(article, timeout=7):
            until = LockToken.objects.get().get_expiration_datetime()
        assert until == NOON + timedelta(seconds=7)

    def test_a_locked_object_is_refused_and_stays_locked(self, article):
        with hold_lock(article) as token:
            with pytest.raises(AlreadyLockedError), hold_lock(article):
                pytest.fail("The block was entered.")
            assert LockToken.objects.get().token_str == token

    def test_a_lock_that_somebody_took_over_meanwhile_is_left_to_them(self, article):
        with freeze_time(NOON) as clock, hold_lock(article, timeout=7):
            clock.tick(7)
            token = LockableModel.lock(article)["token"]
        assert LockToken.objects.get().token_str == token
        LockableModel.unlock(article, token)

    def test_a_lock_that_was_broken_inside_is_no_failure(self, article):
        with hold_lock(article):
            assert LockToken.objects.break_lock(article, reason="test")

    def test_an_object_that_is_deleted_inside_is_no_failure(self, article):
        with hold_lock(article) as token, holding(token):
            Article.objects.filter(pk=article.pk).delete()


@pytest.mark.usefixtures("nothing_leaks")
class TestAssertWriteRefused:
    def test_a_refusal_of_any_kind_passes_and_is_kept(self, article):
        with assert_write_refused() as refusal:
            article.save()
        assert type(refusal.error) is LockRequired
        assert (refusal.error.model_label, refusal.error.pk) == ("app.Article", article.pk)

    def test_a_refusal_of_the_right_kind_passes(self, article):
        with hold_lock(article), assert_write_refused(ObjectLocked) as refusal:
            article.save()
        assert type(refusal.error) is ObjectLocked

    @pytest.mark.parametrize("kind", [ObjectLocked, StaleToken])
    def test_a_refusal_of_another_kind_shows_itself(self, article, kind):
        with pytest.raises(LockRequired), assert_write_refused(kind):
            article.save()

    def test_another_error_shows_itself(self):
        with pytest.raises(TroubleError), assert_write_refused():
            raise TroubleError

    @pytest.mark.parametrize("kind", [WriteRefused, ObjectLocked, StaleToken])
    def test_a_write_that_is_allowed_fails_the_test(self, article, kind):
        with hold_lock(article) as token, pytest.raises(AssertionError) as caught:  # noqa: SIM117
            with assert_write_refused(kind), holding(token):
                article.save()
        assert str(caught.value) == f"The write was allowed; {kind.__name__} was expected."

    def test_it_fails_where_the_model_is_not_enforced(self, article, settings):
        settings.LOCK_TOKENS = {}
        with pytest.raises(AssertionError), assert_write_refused():
            article.save()

    def test_the_test_goes_on_after_a_refusal(self, article):
        with assert_write_refused():
            article.save()
        assert Article.objects.get().title == "A"

    def test_async_code_is_judged_the_same(self, article):
        async def write():
            with assert_write_refused(LockRequired):
                await article.asave()

        async_to_sync(write)()


class TestHeldLock:
    def test_it_locks_several_objects_until_the_test_ends(self, held_lock, alice):
        articles = [Article.objects.create(title=title) for title in "ab"]
        tokens = [held_lock(articles[0]), held_lock(articles[1], by=alice, timeout=7)]
        found = LockToken.objects.order_by("pk")
        assert [lock.token_str for lock in found] == tokens
        assert [lock.locked_by for lock in found] == [None, alice]
        assert found[1].timeout == 7
        with assert_write_refused(ObjectLocked):
            articles[0].save()

    def test_its_tokens_are_not_in_hand(self, held_lock, article):
        held_lock(article)
        assert context.current().tokens == ()


SETTINGS = """
SECRET_KEY = "only for tests"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "lock_tokens"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
USE_TZ = True
"""
CONFTEST = """
import pytest
from django.contrib.auth.models import Group
from lock_tokens.models import LockToken

pytest_plugins = ["lock_tokens.testing"]

@pytest.fixture(autouse=True)
def group(db):
    yield Group.objects.create(name="editors")
    # After all the other fixtures, before the test is rolled back.
    print("left:", LockToken.objects.count())
"""
TESTS = """
from django.contrib.auth.models import Group
from lock_tokens.models import LockableModel
from lock_tokens.testing import hold_lock

def test_that_passes(group, held_lock):
    held_lock(group)
    held_lock(Group.objects.create(name="authors"))
    assert LockableModel.is_locked(group)

def test_that_fails(group, held_lock):
    held_lock(group)
    held_lock(Group.objects.create(name="authors"))
    raise RuntimeError("on purpose")

def test_that_locks_twice(group, held_lock):
    held_lock(group)
    held_lock(group)

def test_that_unlocks(group, held_lock):
    LockableModel.unlock(group, held_lock(group))

def test_that_fails_in_a_block(group):
    with hold_lock(group):
        raise RuntimeError("on purpose")

def test_that_leaves_a_lock_of_its_own(group, held_lock):
    LockableModel.lock(group)
"""


@pytest.fixture
def results(pytester, pytestconfig, monkeypatch):
    """What each test of a project that uses the helpers did, and how many locks it left."""
    monkeypatch.setenv("PYTHONPATH", str(pytestconfig.rootpath))
    pytester.makepyfile(settings_of_project=SETTINGS, test_project=TESTS)
    pytester.makeconftest(CONFTEST)
    result = pytester.runpytest_subprocess(
        "-s", "-v", "-p", "no:cacheprovider", "--ds=settings_of_project"
    )
    pattern = r"::(\w+) (PASSED|FAILED)\s*left: (\d+)"
    found = re.findall(pattern, result.stdout.str())
    return {name: (outcome, int(left)) for name, outcome, left in found}


def test_no_lock_outlives_a_test_of_a_project_whether_it_passes_or_fails(results):
    assert results == {
        "test_that_passes": ("PASSED", 0),
        "test_that_fails": ("FAILED", 0),
        "test_that_locks_twice": ("FAILED", 0),
        "test_that_unlocks": ("PASSED", 0),
        "test_that_fails_in_a_block": ("FAILED", 0),
        # It would be seen.
        "test_that_leaves_a_lock_of_its_own": ("PASSED", 1),
    }
