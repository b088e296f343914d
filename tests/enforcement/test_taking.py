"""How ``locked`` waits, reads again, gives up and gives back."""

import asyncio
import threading
import time
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import DatabaseError, OperationalError, connection, transaction
from django.utils import timezone
from freezegun import freeze_time

from lock_tokens.enforcement import context, holding, locked, taking
from lock_tokens.exceptions import AlreadyLockedError, LockRequired
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.testing import hold_lock
from tests.app.models import Article, ArticleProxy, Bistro, Place, Slug

pytestmark = pytest.mark.django_db

# A wait that a test sees to its end, in seconds; and one that none should need.
SHORT = 0.12
LONG = 30
# What adding floats up may be wrong by.
ROUNDING = 1e-9


@pytest.fixture(autouse=True)
def enforced(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article", "app.Slug"]}


@pytest.fixture(autouse=True)
def nothing_is_left_in_hand():
    yield
    assert context.current() == context.State()


@pytest.fixture
def article():
    return Article.objects.create(title="old")


@pytest.fixture
def other():
    return Article.objects.create(title="other")


def is_held(obj):
    return LockToken.objects.filter(locked_object_id=str(obj.pk)).exists()


class TestWait:
    @pytest.mark.parametrize("wait", [0, -1, 0.0, float("nan"), float("inf"), float("-inf")])
    def test_is_a_positive_number(self, article, wait):
        with pytest.raises(ValueError, match=r"^wait is a positive number of seconds or None, not"):
            locked(article, wait=wait)

    @pytest.mark.parametrize("wait", ["5", True, timedelta(seconds=5), [1]])
    def test_is_a_number(self, article, wait):
        with pytest.raises(TypeError) as caught:
            locked(article, wait=wait)
        assert str(caught.value) == f"wait is a number of seconds or None, not {wait!r}."

    def test_takes_a_free_lock_at_once(self, article, assert_statements):
        assert not LockableModel.is_locked(article)  # The content type is known from here on.
        with assert_statements(2), locked(article, wait=LONG):
            pass

    def test_ends_in_the_refusal_of_the_last_attempt(self, article):
        begun = time.monotonic()
        with hold_lock(article), pytest.raises(AlreadyLockedError) as caught:
            locked(article, wait=SHORT).__enter__()
        assert time.monotonic() - begun >= SHORT
        assert (caught.value.model_label, caught.value.pk) == ("app.Article", article.pk)
        assert not LockToken.objects.exists()

    @pytest.mark.parametrize("wait", [None, SHORT])
    def test_ends_though_the_clock_stands_still(self, article, wait):
        with freeze_time("2026-03-01"), hold_lock(article), pytest.raises(AlreadyLockedError):
            locked(article, wait=wait).__enter__()

    def test_takes_over_a_lock_that_expires_meanwhile(self, article):
        LockableModel.lock(article, timeout=3600)
        almost = timezone.now() - timedelta(seconds=3600 - SHORT)
        LockToken.objects.update(locked_at=almost)
        with locked(article, wait=LONG):
            article.save()

    def test_a_pause_grows_and_none_goes_past_the_end(self):
        assert sum(taking._pauses(1.0)) <= 1.0 + ROUNDING
        with freeze_time("2026-03-01"):
            pauses = list(taking._pauses(60))
        assert sum(pauses) == pytest.approx(60)
        assert 0.02 < pauses[0] <= 0.05
        assert all(0 < pause <= 0.5 for pause in pauses)
        assert max(pauses) > 0.25
        assert len(set(pauses)) > len(pauses) / 2

    def test_what_was_renewed_stays_and_what_was_taken_does_not(self, article, other):
        token = LockableModel.lock(article)["token"]
        with hold_lock(other), holding(token), pytest.raises(AlreadyLockedError):
            locked(article, other, wait=SHORT).__enter__()
        assert LockableModel.check_lock(article, token)
        assert not is_held(other)

    def test_a_decorator_waits_at_each_call(self, article):
        @locked(article, wait=SHORT)
        def write():
            return LockToken.objects.count()

        assert write() == 1
        with hold_lock(article), pytest.raises(AlreadyLockedError):
            write()


class TestAllOrNothing:
    @pytest.mark.parametrize("block", ["autocommit", "atomic"])
    @pytest.mark.parametrize("wait", [None, SHORT])
    @pytest.mark.django_db(transaction=True)
    def test_a_lock_that_is_refused_gives_the_others_up(self, article, other, wait, block):
        def attempt():
            with pytest.raises(AlreadyLockedError):
                locked(article, other, wait=wait).__enter__()
            assert LockToken.objects.count() == 1
            article.refresh_from_db()  # A transaction stays usable.

        with hold_lock(other):
            if block == "atomic":
                with transaction.atomic():
                    attempt()
            else:
                attempt()

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("atomic", [False, True])
    def test_an_error_of_the_database_gives_the_others_up(self, article, other, atomic):
        inserts = []

        def break_the_second(execute, sql, params, many, details):
            if "INSERT INTO lock_tokens_locktoken" in sql:
                inserts.append(sql)
                if len(inserts) == 2:
                    raise OperationalError("the server is tired")
            return execute(sql, params, many, details)

        def attempt():
            with (
                connection.execute_wrapper(break_the_second),
                pytest.raises(OperationalError, match="tired"),
            ):
                locked(article, other).__enter__()
            assert not LockToken.objects.exists()

        if atomic:
            with transaction.atomic():
                attempt()
        else:
            attempt()
        assert len(inserts) == 2

    def test_an_object_under_several_names_is_one_lock(self):
        bistro = Bistro.objects.create(name="a")
        article = Article.objects.create(title="a")
        names = [bistro, Place.objects.get(), article, ArticleProxy.objects.get(), article]
        with locked(*names, wait=SHORT) as tokens:
            assert LockToken.objects.count() == 2
            assert len(set(tokens[:2])) == len(set(tokens[2:])) == 1
        assert not LockToken.objects.exists()


class TestRefresh:
    def test_reads_the_objects_again_under_their_locks(self, article, other):
        stale = Article.objects.get(pk=article.pk)
        with locked(article):
            article.title = "new"
            article.save()
        with locked(stale):
            assert stale.title == "old"
        with locked(stale, other, refresh=True):
            assert stale.title == "new"

    def test_an_object_that_is_gone_is_told_and_nothing_stays_locked(self, article, other):
        gone = Article.objects.get(pk=other.pk)
        with locked(other):
            other.delete()
        with pytest.raises(Article.DoesNotExist):
            locked(article, gone, refresh=True).__enter__()
        assert not LockToken.objects.exists()

    def test_the_row_of_a_child_that_is_gone_is_told(self):
        bistro = Bistro.objects.create(name="a")
        Bistro.objects.get().delete(keep_parents=True)
        with pytest.raises(Bistro.DoesNotExist):
            locked(bistro, refresh=True).__enter__()
        assert not LockToken.objects.exists()

    def test_in_async_code(self, article):
        stale = Article.objects.get(pk=article.pk)

        async def main():
            async with locked(article):
                article.title = "new"
                await article.asave()
            async with locked(stale, refresh=True, wait=SHORT):
                assert stale.title == "new"

        async_to_sync(main)()


class TestLeaving:
    def test_an_error_that_broke_the_transaction_is_the_one_to_see(self, article):
        with (
            pytest.raises(DatabaseError, match="no_such_column"),
            transaction.atomic(),
            locked(article),
        ):
            list(Article.objects.extra(select={"x": "no_such_column"}))
        assert not LockToken.objects.exists()

    def test_a_transaction_marked_for_rollback_takes_the_lock_with_it(self, article):
        with transaction.atomic(), locked(article):
            transaction.set_rollback(True)
        assert not LockToken.objects.exists()

    @pytest.mark.parametrize("failing", [False, True])
    def test_a_lock_that_cannot_be_released_is_told_unless_an_error_is_on_its_way(
        self, article, other, caplog, failing
    ):
        deletes = []

        def break_the_first(execute, sql, params, many, details):
            if sql.startswith("DELETE FROM lock_tokens_locktoken"):
                deletes.append(sql)
                if len(deletes) == 1:
                    raise OperationalError("the server is tired")
            return execute(sql, params, many, details)

        expected = ZeroDivisionError if failing else OperationalError
        with (
            connection.execute_wrapper(break_the_first),
            pytest.raises(expected),
            locked(article, other) as tokens,
        ):
            1 / (0 if failing else 1)
        assert [is_held(article), is_held(other)] == [False, True]
        assert f"The lock of app.Article {other.pk} stays: OperationalError" in caplog.messages
        assert not any(token in caplog.text for token in tokens)


class Stopper:
    """Stops the thread of sync code at each statement that begins so, until told to go on."""

    def __init__(self, beginning):
        self.beginning = beginning
        self.reached = asyncio.Event()
        self.go_on = threading.Event()
        self.loop = None

    def __call__(self, execute, sql, params, many, details):
        if self.loop is not None and self.beginning in sql:
            self.loop.call_soon_threadsafe(self.reached.set)
            assert self.go_on.wait(20)
        return execute(sql, params, many, details)


INSERT = "INSERT INTO lock_tokens_locktoken"
DELETE = "DELETE FROM lock_tokens_locktoken"


async def hold(*articles, **options):
    async with locked(*articles, **options):
        await asyncio.Event().wait()


async def start_holding(*articles):
    task = asyncio.create_task(hold(*articles))
    while await LockToken.objects.acount() < len(articles):
        await asyncio.sleep(0)
    return task


class TestCancellation:
    def cancel_at(self, beginning, article, times=1, **options):
        """Cancel a task while the database runs such a statement of its ``locked``."""
        stopper = Stopper(beginning)

        async def main():
            if beginning == DELETE:
                task = await start_holding(article)
                task.cancel()
            else:
                task = asyncio.create_task(hold(article, **options))
            stopper.loop = asyncio.get_running_loop()
            await asyncio.wait_for(stopper.reached.wait(), 20)
            for _ in range(times):
                task.cancel()
                await asyncio.sleep(SHORT / 4)
            stopper.go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await task

        with connection.execute_wrapper(stopper):
            async_to_sync(main)()

    @pytest.mark.parametrize("times", [1, 2])
    @pytest.mark.parametrize("wait", [None, LONG])
    def test_while_the_lock_is_being_taken_leaves_no_lock(self, article, times, wait):
        self.cancel_at(INSERT, article, times, wait=wait)
        assert not LockToken.objects.exists()

    @pytest.mark.parametrize("times", [1, 2])
    def test_while_the_lock_is_being_released_leaves_no_lock(self, article, times):
        self.cancel_at(DELETE, article, times)
        assert not LockToken.objects.exists()

    def test_would_leave_one_if_the_thread_were_left_alone(self, article, monkeypatch):
        async def left_alone(function, *args, undo=None):
            return await sync_to_async(function)(*args)

        monkeypatch.setattr(taking, "_to_the_end", left_alone)
        self.cancel_at(INSERT, article)
        assert LockToken.objects.exists()

    def test_between_two_attempts_holds_nothing(self, article, other):
        async def main():
            async with locked(other):
                # A task that does not see what its maker has in hand.
                task = contextless(hold(article, other, wait=LONG))
                await asyncio.sleep(SHORT)
                assert not task.done()
                assert await LockToken.objects.acount() == 1
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert await LockToken.objects.acount() == 1

        async_to_sync(main)()
        assert not LockToken.objects.exists()

    def test_a_timeout_of_the_caller_ends_the_wait(self, article):
        async def main():
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(hold(article, wait=LONG), SHORT)

        begun = time.monotonic()
        with hold_lock(article):
            async_to_sync(main)()
        assert time.monotonic() - begun < LONG

    def test_a_loop_that_closes_leaves_no_lock(self, article):
        stopper, tasks = Stopper(INSERT), []

        async def main():
            stopper.loop = asyncio.get_running_loop()
            tasks.append(asyncio.create_task(hold(article)))
            await stopper.reached.wait()
            threading.Timer(SHORT, stopper.go_on.set).start()

        with connection.execute_wrapper(stopper):
            async_to_sync(main)()
        assert tasks[0].cancelled()
        assert not LockToken.objects.exists()

    def test_of_the_body_releases_the_lock(self, article):
        async def main():
            task = await start_holding(article)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        async_to_sync(main)()
        assert not LockToken.objects.exists()


def contextless(coroutine):
    """Start a task with nothing in hand."""
    reset = context._state.set(context.State())
    try:
        return asyncio.create_task(coroutine)
    finally:
        context._state.reset(reset)


class TestAsync:
    def test_the_wait_leaves_the_thread_of_sync_code_to_the_holder(self, article):
        order = []

        async def wait():
            async with locked(article, wait=LONG):
                order.append("waiter")
                await article.asave()

        async def main():
            async with locked(article):
                task = contextless(wait())
                await asyncio.sleep(SHORT)
                await article.asave()
                order.append("holder")
            await task

        async_to_sync(main)()
        assert order == ["holder", "waiter"]
        assert not LockToken.objects.exists()

    def test_the_wait_ends_in_the_refusal_of_the_last_attempt(self, article):
        async def main():
            async with locked(article, wait=SHORT):
                pass  # pragma: no cover

        with hold_lock(article), pytest.raises(AlreadyLockedError):
            async_to_sync(main)()

    def test_an_error_of_the_body_comes_through(self, article):
        async def main():
            async with locked(article):
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            async_to_sync(main)()
        assert not LockToken.objects.exists()
        with pytest.raises(LockRequired):
            article.save()

    def test_of_an_unsaved_object_says_so(self):
        async def main():
            async with locked(Slug(slug="new")):
                pass  # pragma: no cover

        with pytest.raises(ValueError, match="unsaved"):
            async_to_sync(main)()
