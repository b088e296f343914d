"""Tokens in hand: what the context managers present, take, give back and keep to themselves."""

import asyncio
import contextvars
import threading
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth import get_user_model
from django.db import connections
from django.utils import timezone

from lock_tokens.enforcement import context, holding, locked, suspended
from lock_tokens.exceptions import AlreadyLockedError, LockRequired, ObjectLocked, StaleToken
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.testing import hold_lock
from tests.app.models import Article, Page, Slug

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def enforced(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article", "app.Slug"]}


@pytest.fixture
def article():
    return Article.objects.create(title="old")


@pytest.fixture
def other():
    return Article.objects.create(title="other")


class TestLocked:
    def test_takes_the_lock_presents_its_token_and_releases_it(self, article):
        with locked(article) as token:
            assert LockToken.objects.get().token_str == token
            article.save()
        assert not LockToken.objects.exists()
        with pytest.raises(LockRequired):
            article.save()

    def test_gives_the_tokens_of_several_objects_in_the_order_asked_for(self, article, other):
        slug = Slug.objects.create(slug="A/b c")
        with locked(slug, other, article) as tokens:
            found = LockToken.objects.for_objects([slug, other, article])
            assert [found[obj].token_str for obj in (slug, other, article)] == list(tokens)
            slug.save()
            other.save()
            article.save()
        assert not LockToken.objects.exists()

    def test_with_a_stale_token_in_hand_takes_a_fresh_lock(self, article):
        stale = LockableModel.lock(article)
        LockableModel.unlock(article, stale["token"])
        with holding(stale), locked(article) as token:
            assert token != stale["token"]
            article.save()

    def test_takes_all_locks_or_none(self, article, other):
        with hold_lock(other), pytest.raises(AlreadyLockedError), locked(article, other):
            pass  # pragma: no cover
        assert not LockToken.objects.exists()

    def test_locks_an_object_that_is_named_twice_once(self, article):
        with locked(article, Article.objects.get()) as (first, second):
            assert first == second

    def test_releases_when_the_block_raises(self, article):
        with pytest.raises(ZeroDivisionError), locked(article):
            raise ZeroDivisionError
        assert not LockToken.objects.exists()
        assert context.current() == context.State()

    def test_may_be_nested_and_the_outer_block_keeps_the_lock(self, article):
        with locked(article) as outer:
            with locked(article) as inner:
                assert inner == outer
                article.save()
            article.save()

    def test_nested_over_an_expired_lock_keeps_the_token_of_the_outer_block(self, article):
        with locked(article) as outer:
            LockToken.objects.update(locked_at=timezone.now() - timedelta(days=1))
            with locked(article) as inner:
                assert inner == outer
            article.save()

    def test_has_a_timeout_and_a_holder(self, article):
        user = get_user_model().objects.create(username="alice")
        with locked(article, timeout=7, by=user):
            lock = LockToken.objects.get()
        assert (lock.timeout, lock.locked_by) == (7, user)

    def test_of_an_unsaved_object_says_so(self):
        with pytest.raises(ValueError, match="unsaved"), locked(Article(pk=5)):
            pass  # pragma: no cover

    def test_of_nothing_says_so(self):
        with pytest.raises(TypeError, match="needs at least one object"):
            locked()

    def test_ends_quietly_when_the_object_is_deleted_inside(self, article):
        with locked(article):
            article.delete()
        assert not LockToken.objects.exists()

    def test_a_lock_that_was_broken_inside_protects_no_more(self, article):
        with locked(article):
            LockToken.objects.break_lock(article, reason="the test")
            with pytest.raises(StaleToken):
                article.save()

    def test_as_a_decorator_takes_the_lock_at_each_call(self, article):
        @locked(article)
        def write():
            article.save()
            return LockToken.objects.get().token_str

        assert write() != write()
        assert not LockToken.objects.exists()


class TestHolding:
    def test_presents_a_token_that_was_got_elsewhere(self, article):
        token = LockableModel.lock(article)
        with holding(token):
            article.save()
        with holding(token["token"]):
            article.save()
        with pytest.raises(ObjectLocked):
            article.save()

    def test_releases_nothing(self, article):
        with holding(LockableModel.lock(article)):
            pass
        assert LockToken.objects.count() == 1

    def test_adds_to_what_is_in_hand(self, article, other):
        with holding(LockableModel.lock(article)), holding(LockableModel.lock(other)):
            article.save()
            other.save()

    def test_the_token_of_another_object_is_not_a_stale_token_of_this_one(self, article, other):
        with holding(LockableModel.lock(other)), pytest.raises(LockRequired):
            article.save()

    def test_a_stale_token_beside_the_token_of_another_object_is_stale(self, article, other):
        stale = LockableModel.lock(article)
        LockableModel.unlock(article, stale["token"])
        with holding(LockableModel.lock(other), stale), pytest.raises(StaleToken):
            article.save()

    @pytest.mark.parametrize("token", ["garbage", "ü" * 32, "\x00", "x" * 100_000, "\ud800"])
    def test_any_garbage_is_a_stale_token(self, article, token):
        with holding(token), pytest.raises(StaleToken):
            article.save()

    @pytest.mark.parametrize("tokens", [(), (None,), ("",), (5,)])
    def test_needs_tokens(self, tokens):
        with pytest.raises(TypeError, match="needs lock tokens"):
            holding(*tokens)

    def test_as_a_decorator(self, article):
        @holding(LockableModel.lock(article))
        def write():
            article.save()

        write()
        with pytest.raises(ObjectLocked):
            article.save()


class TestSuspended:
    def test_switches_enforcement_off_for_all_models(self, article):
        slug = Slug.objects.create(slug="key")
        with suspended(reason="import"):
            article.save()
            slug.save()
        with pytest.raises(LockRequired):
            article.save()

    def test_or_for_those_that_are_named(self, article):
        slug = Slug.objects.create(slug="key")
        with suspended(Article, reason="import"):
            article.save()
            with pytest.raises(LockRequired):
                slug.save()
            with suspended(Slug, reason="nested"):
                article.save()
                slug.save()

    @pytest.mark.parametrize("reason", ["", "  ", None])
    def test_needs_a_reason(self, reason):
        with pytest.raises(ValueError, match="needs a reason"):
            suspended(reason=reason)
        with pytest.raises(TypeError):
            suspended()

    def test_logs_the_reason(self, caplog):
        caplog.set_level("INFO", "lock_tokens")
        with suspended(Article, reason="nightly import"):
            pass
        with suspended(reason="repair"):
            pass
        assert caplog.messages == [
            "Enforcement suspended for app.Article: nightly import",
            "Enforcement suspended for all models: repair",
        ]

    def test_is_undone_by_an_exception(self, article):
        with pytest.raises(ZeroDivisionError), suspended(reason="the test"):
            raise ZeroDivisionError
        with pytest.raises(LockRequired):
            article.save()

    def test_as_a_decorator(self, article):
        @suspended(reason="the test")
        def write():
            article.save()

        write()
        with pytest.raises(LockRequired):
            article.save()


class TestAsync:
    def test_the_blocks_and_decorators_are_async_too(self, article):
        @suspended(reason="the test")
        async def write_suspended():
            await article.asave()

        @locked(article)
        async def write_locked():
            await article.asave()

        async def main():
            async with locked(article) as token:
                assert (await LockToken.objects.aget()).token_str == token
                await article.asave()
            assert not await LockToken.objects.aexists()
            await write_suspended()
            await write_locked()
            async with holding(await LockableModel.alock(article)):
                await article.asave()
            with pytest.raises(ObjectLocked):
                await article.asave()

        async_to_sync(main)()

    def test_a_task_does_not_see_what_another_task_holds(self, article):
        async def holder(entered, done):
            async with locked(article):
                entered.set()
                await done.wait()

        async def intruder(entered, done):
            await entered.wait()
            try:
                with pytest.raises(ObjectLocked):
                    await article.asave()
            finally:
                done.set()

        async def main():
            entered, done = asyncio.Event(), asyncio.Event()
            await asyncio.gather(holder(entered, done), intruder(entered, done))

        async_to_sync(main)()

    def test_sync_code_called_from_async_code_sees_what_its_caller_holds(self, article):
        async def main():
            async with locked(article):
                await sync_to_async(article.save)()

        async_to_sync(main)()


class TestLeaks:
    def run_in_thread(self, work):
        found = []

        def run():
            try:
                found.append(work())
            finally:
                connections.close_all()

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return found[0]

    def test_a_thread_holds_nothing_of_the_one_that_started_it(self, article):
        with locked(article), suspended(reason="the test"):
            # Since Python 3.14 a thread may inherit the context; an empty one shows ours.
            state = self.run_in_thread(lambda: contextvars.Context().run(context.current))
        assert state == context.State()

    def test_no_token_is_in_the_repr_of_what_is_in_hand(self, article):
        with locked(article) as token:
            assert token not in repr(context.current())
            assert token not in repr(vars(context.current()))


class TestOutsideRequest:
    def test_allow_lets_scripts_write(self, article, settings, assert_statements):
        settings.LOCK_TOKENS = {**settings.LOCK_TOKENS, "OUTSIDE_REQUEST": "allow"}
        with hold_lock(article), assert_statements(1):
            article.save()

    def test_respect_refuses_only_somebody_elses_live_lock(self, article, settings):
        settings.LOCK_TOKENS = {**settings.LOCK_TOKENS, "OUTSIDE_REQUEST": "respect"}
        article.save()
        with locked(article):
            article.save()
        with hold_lock(article), pytest.raises(ObjectLocked):
            article.save()
        assert not LockToken.objects.exists()

    def test_respect_makes_an_expired_lock_stale(self, article, settings):
        settings.LOCK_TOKENS = {**settings.LOCK_TOKENS, "OUTSIDE_REQUEST": "respect"}
        token = LockableModel.lock(article)
        LockToken.objects.update(locked_at=timezone.now() - timedelta(days=1))
        article.save()
        settings.LOCK_TOKENS = {**settings.LOCK_TOKENS, "OUTSIDE_REQUEST": "refuse"}
        with holding(token), pytest.raises(StaleToken):
            article.save()


class TestPolicies:
    def test_respect_refuses_only_somebody_elses_live_lock(self, article, settings):
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": {"app.Article": {"POLICY": "respect"}}}
        article.save()
        with hold_lock(article), pytest.raises(ObjectLocked):
            article.save()

    def test_report_only_lets_pass_and_logs(self, article, settings, caplog):
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": {"app.Article": {"REPORT_ONLY": True}}}
        article.save()
        (message,) = caplog.messages
        said = f"LockRequired: app.Article {article.pk} (report only), by {__file__}:"
        assert message.startswith(said)

    def test_exempt_fields_need_no_token(self, article, settings):
        settings.LOCK_TOKENS = {
            "ENFORCED_MODELS": {"app.Article": {"EXEMPT_FIELDS": ["view_count"]}}
        }
        article.view_count = 5
        article.save(update_fields=["view_count"])
        for fields in (["view_count", "title"], ["title"], None):
            with pytest.raises(LockRequired):
                article.save(update_fields=fields)
        assert Article.objects.get().view_count == 5

    def test_timeout_is_the_models_own(self, article, settings):
        settings.LOCK_TOKENS = {"TIMEOUT": 60, "ENFORCED_MODELS": {"app.Article": {"TIMEOUT": 7}}}
        LockableModel.lock(article)
        LockableModel.lock(Page.objects.create())
        assert list(LockToken.objects.order_by("pk").values_list("timeout", flat=True)) == [7, 60]
