"""What a block puts in hand: who sees it, and that it is gone when the block ends, wherever."""

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.asgi import get_asgi_application
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connections, transaction
from django.http import HttpResponse, StreamingHttpResponse
from django.test import Client
from django.urls import path

from lock_tokens.enforcement import context, holding, locked, suspended
from lock_tokens.exceptions import AlreadyLockedError, LockRequired, ObjectLocked, WriteRefused
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.testing import hold_lock
from tests.app.models import Article

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def enforced(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"]}


@pytest.fixture(autouse=True)
def nothing_is_left_in_hand():
    yield
    assert context.current() == context.State()


@pytest.fixture
def article():
    return Article.objects.create(title="old")


def off():
    return suspended(reason="the test")


def run(main):
    """Run the coroutine function ``main`` as Django runs async views under WSGI."""
    return async_to_sync(main)()


class TestDecorators:
    def test_a_method_is_decorated_like_a_function(self, article):
        class Writer:
            @off()
            def write(self, value):
                article.title = value
                article.save()
                return self

        writer = Writer()
        assert writer.write("new") is writer
        assert Article.objects.get().title == "new"

    def test_each_call_is_a_block_of_its_own(self, article):
        @off()
        def write(times):
            article.save()
            if times:
                write(times - 1)
            article.save()

        write(2)
        with pytest.raises(LockRequired):
            article.save()

    @pytest.mark.parametrize("name", ["locked", "holding", "suspended"])
    @pytest.mark.parametrize("kind", ["generator", "async generator"])
    def test_a_generator_is_refused_as_its_body_runs_after_the_call(self, article, name, kind):
        def generator():
            yield  # pragma: no cover

        async def async_generator():
            yield  # pragma: no cover

        block = {"locked": locked(article), "holding": holding("f" * 32), "suspended": off()}[name]
        function = {"generator": generator, "async generator": async_generator}[kind]
        with pytest.raises(TypeError) as caught:
            block(function)
        assert str(caught.value) == (
            f"{name}() cannot decorate the generator {function.__qualname__}(): its body runs "
            "after the call has returned. Put a with statement inside it."
        )

    @pytest.mark.parametrize("thing", [Article, "handle", classmethod(lambda cls: None)])
    def test_what_is_no_function_is_refused(self, thing):
        with pytest.raises(TypeError, match=r"suspended\(\) decorates functions and methods, not"):
            off()(thing)


class TestOneBlockUsedManyTimes:
    def test_nested_in_itself_it_lasts_until_the_outer_end(self, article):
        block = off()
        with block:
            with block:
                article.save()
            article.save()
        with pytest.raises(LockRequired):
            article.save()

    def test_a_lock_taken_twice_stays_until_the_outer_end(self, article):
        block = locked(article)
        with block as outer:
            with block as inner:
                assert inner == outer
            assert LockToken.objects.count() == 1
            article.save()
        assert not LockToken.objects.exists()
        with block as again:
            assert again != outer

    @pytest.mark.parametrize("first", ["a", "b"])
    def test_ends_for_each_context_on_its_own(self, article, first):
        block = off()
        contexts = {"a": contextvars.Context(), "b": contextvars.Context()}
        second = ({"a", "b"} - {first}).pop()
        contexts["a"].run(block.__enter__)
        contexts["b"].run(block.__enter__)
        contexts[first].run(block.__exit__, None, None, None)
        with pytest.raises(LockRequired):
            contexts[first].run(article.save)
        contexts[second].run(article.save)
        contexts[second].run(block.__exit__, None, None, None)
        with pytest.raises(LockRequired):
            contexts[second].run(article.save)

    def test_a_lock_of_one_context_is_not_anothers(self, article):
        block = locked(article)
        contexts = [contextvars.Context(), contextvars.Context()]
        contexts[0].run(block.__enter__)
        with pytest.raises(AlreadyLockedError):
            contexts[1].run(block.__enter__)
        contexts[0].run(article.save)
        contexts[0].run(block.__exit__, None, None, None)
        assert not LockToken.objects.exists()

    def test_tasks_that_share_a_block_do_not_end_each_others(self, article):
        block = off()

        async def one(entered, end):
            async with block:
                entered.set()
                await end.wait()
                await article.asave()
            with pytest.raises(LockRequired):
                await article.asave()

        async def main():
            events = [asyncio.Event() for _ in range(4)]
            tasks = [asyncio.create_task(one(*events[:2])), asyncio.create_task(one(*events[2:]))]
            await events[0].wait()
            await events[2].wait()
            events[1].set()
            await tasks[0]
            events[3].set()
            await tasks[1]

        run(main)


class TestEnds:
    def test_on_an_exit_stack(self, article):
        with ExitStack() as stack:
            stack.enter_context(off())
            stack.enter_context(locked(article))
            article.save()
        assert not LockToken.objects.exists()
        with pytest.raises(LockRequired):
            article.save()

    def test_on_an_async_exit_stack(self, article):
        async def main():
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(locked(article))
                stack.enter_context(holding("f" * 32))
                await article.asave()
            assert not await LockToken.objects.aexists()

        run(main)

    def test_out_of_turn_without_leaving_anything(self, article):
        first, second = off(), off()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        article.save()
        second.__exit__(None, None, None)
        with pytest.raises(LockRequired):
            article.save()

    def test_more_than_once_without_harm(self, article):
        block = off()
        with block:
            block.__exit__(None, None, None)
            with pytest.raises(LockRequired):
                article.save()

    def test_with_an_error_at_its_beginning(self, article):
        with hold_lock(article), pytest.raises(AlreadyLockedError), locked(article):
            pass  # pragma: no cover
        assert context.current() == context.State()

    @pytest.mark.parametrize("kind", ["locked", "suspended"])
    def test_in_a_generator_that_is_closed_elsewhere(self, article, kind):
        def lines():
            with {"locked": locked, "suspended": lambda article: off()}[kind](article):
                yield article.save()

        generator = lines()
        next(generator)
        article.save()  # The body of a generator shares the context of who iterates over it.
        contextvars.Context().run(generator.close)
        assert not LockToken.objects.exists()
        with pytest.raises(LockRequired):
            article.save()
        context._state.set(context.State())

    def test_with_the_error_of_the_body_and_no_other(self, article):
        def lines():
            with off(), locked(article):
                yield

        generator = lines()
        contextvars.Context().run(next, generator)
        with pytest.raises(ZeroDivisionError):
            contextvars.Context().run(generator.throw, ZeroDivisionError)
        assert not LockToken.objects.exists()

    @pytest.mark.parametrize("kind", ["locked", "suspended"])
    def test_in_an_async_generator_whose_end_is_another_tasks(self, article, kind):
        """So do the async fixtures of a test framework, and a loop that closes."""

        @asynccontextmanager
        async def fixture():
            async with {"locked": locked, "suspended": lambda article: off()}[kind](article):
                yield await article.asave()

        async def main():
            manager = fixture()
            await manager.__aenter__()
            await article.asave()

            async def tear_down():
                await manager.__aexit__(None, None, None)

            await asyncio.create_task(tear_down())
            assert not await LockToken.objects.aexists()
            with pytest.raises(LockRequired):
                await article.asave()

        contextvars.Context().run(run, main)

    def test_in_an_async_generator_that_nobody_iterates_to_its_end(self, article):
        async def lines():
            async with off():
                yield await article.asave()
                yield  # pragma: no cover

        async def main():
            async for _line in lines():
                break
            # The loop closes the generator in a task of its own.
            await asyncio.sleep(0)
            await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
            with pytest.raises(LockRequired):
                await article.asave()

        contextvars.Context().run(run, main)


class TestWhoSees:
    def test_a_task_sees_what_was_in_hand_when_it_was_made_until_the_block_ends(self, article):
        async def save(begin):
            await begin.wait()
            await article.asave()

        async def main():
            begins = [asyncio.Event() for _ in range(3)]
            tasks = [asyncio.create_task(save(begins[0]))]
            async with locked(article):
                tasks += [asyncio.create_task(save(begin)) for begin in begins[1:]]
                begins[0].set()
                with pytest.raises(ObjectLocked):
                    await tasks[0]
                begins[1].set()
                await tasks[1]
            begins[2].set()
            with pytest.raises(LockRequired):
                await tasks[2]

        run(main)

    def test_a_task_that_outlives_the_block_is_not_suspended_any_more(self, article):
        async def save(begin):
            await begin.wait()
            await article.asave()

        async def main():
            begin = asyncio.Event()
            async with off():
                task = asyncio.create_task(save(begin))
                await asyncio.sleep(0)
            begin.set()
            with pytest.raises(LockRequired):
                await task

        run(main)

    def test_what_a_task_puts_in_hand_its_maker_does_not_see(self, article):
        async def hold(entered, end):
            async with off():
                entered.set()
                await end.wait()

        async def main():
            entered, end = asyncio.Event(), asyncio.Event()
            task = asyncio.create_task(hold(entered, end))
            await entered.wait()
            with pytest.raises(LockRequired):
                await article.asave()
            end.set()
            await task

        run(main)

    def test_sync_and_async_code_that_call_each_other_see_the_same(self, article):
        async def asave():
            await article.asave()
            await sync_to_async(article.save)()

        with locked(article):
            async_to_sync(asave)()
        with pytest.raises(LockRequired):
            async_to_sync(asave)()

    def test_a_block_that_sync_code_begins_for_async_code_lasts(self, article):
        async def main():
            block = locked(article)
            await sync_to_async(block.__enter__)()
            await article.asave()
            await sync_to_async(block.__exit__)(None, None, None)
            with pytest.raises(LockRequired):
                await article.asave()

        run(main)

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("block", [locked, lambda article: off()], ids=["locked", "suspended"])
    def test_a_thread_of_a_pool_sees_nothing_unless_it_is_given_the_context(self, article, block):
        def save():
            try:
                article.save()
            finally:
                connections.close_all()

        with ThreadPoolExecutor(1) as pool, block(article):
            with pytest.raises(WriteRefused):
                pool.submit(save).result()
            pool.submit(contextvars.copy_context().run, save).result()
            late = contextvars.copy_context()
        with ThreadPoolExecutor(1) as pool, pytest.raises(WriteRefused):
            pool.submit(late.run, save).result()

    @pytest.mark.django_db(transaction=True)
    def test_a_thread_that_asyncio_starts_sees_what_its_task_sees(self, article):
        def save():
            try:
                article.save()
            finally:
                connections.close_all()

        async def main():
            async with locked(article):
                await asyncio.to_thread(save)
            with pytest.raises(LockRequired):
                await asyncio.to_thread(save)

        run(main)

    @pytest.mark.parametrize("block", [locked, lambda article: off()], ids=["locked", "suspended"])
    def test_what_runs_on_commit_sees_what_is_in_hand_at_the_commit(
        self, article, block, django_capture_on_commit_callbacks
    ):
        with block(article), django_capture_on_commit_callbacks(execute=True), transaction.atomic():
            transaction.on_commit(article.save)
        with (
            pytest.raises(LockRequired),
            django_capture_on_commit_callbacks(execute=True),
            transaction.atomic(),
            block(article),
        ):
            transaction.on_commit(article.save)


def stream(request, pk, token):
    """Write under the lock that the view took, each time in a block that ends before the yield."""

    def lines():
        for number in range(2):
            with holding(token):
                Article(pk=pk, title=f"line {number}").save(force_update=True)
            yield b"saved"

    return StreamingHttpResponse(lines())


async def astream(request, pk, token):
    async def lines():
        for number in range(2):
            async with holding(token):
                await Article(pk=pk, title=f"line {number}").asave(force_update=True)
            yield b"saved"

    return StreamingHttpResponse(lines())


def stream_without(request, pk, token):
    def lines():
        try:
            Article(pk=pk, title="never").save(force_update=True)
        except WriteRefused as error:
            yield type(error).__name__

    return StreamingHttpResponse(lines())


async def astream_without(request, pk, token):
    async def lines():
        try:
            await Article(pk=pk, title="never").asave(force_update=True)
        except WriteRefused as error:
            yield type(error).__name__

    return StreamingHttpResponse(lines())


def forget(request, pk, token):
    """Begin blocks and never end them."""
    holding(token).__enter__()
    off().__enter__()
    Article(pk=pk, title="forgotten").save(force_update=True)
    return HttpResponse()


def save(request, pk, token):
    Article(pk=pk, title="never").save(force_update=True)
    return HttpResponse("saved")  # pragma: no cover


VIEWS = [stream, astream, stream_without, astream_without, forget, save]
urlpatterns = [path(f"{view.__name__}/<int:pk>/<str:token>/", view) for view in VIEWS]


@pytest.fixture
def served(settings):
    settings.ROOT_URLCONF = __name__
    # As the test client does, because the connection is the test's.
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


async def over_asgi(url, token):
    """Return the body of the answer to a request whose header presents ``token``."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": url,
        "headers": [(b"x-lock-token", token.encode()), (b"host", b"testserver")],
    }
    incoming = asyncio.Queue()
    incoming.put_nowait({"type": "http.request"})
    sent = []

    async def send(message):
        sent.append(message)

    await get_asgi_application()(scope, incoming.get, send)
    return b"".join(message.get("body", b"") for message in sent)


@pytest.mark.usefixtures("served")
class TestRequests:
    """The header presents the token, so what is refused is so as it happens outside of it."""

    @pytest.fixture
    def token(self, article):
        return LockableModel.lock(article)["token"]

    def test_a_stream_is_outside_the_request_that_presented_the_token(self, article, token):
        url = f"/stream_without/{article.pk}/{token}/"
        response = Client().get(url, headers={"x-lock-token": token})
        assert list(response.streaming_content) == [b"ObjectLocked"]
        assert Article.objects.get().title == "old"

    def test_a_stream_may_take_the_token_into_its_own_hand(self, article, token):
        response = Client().get(f"/stream/{article.pk}/{token}/")
        assert list(response.streaming_content) == [b"saved", b"saved"]
        assert Article.objects.get().title == "line 1"

    @pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators")
    @pytest.mark.parametrize("name", ["stream_without", "astream_without"])
    def test_over_asgi_a_stream_is_outside_the_request_too(self, article, token, name):
        body = async_to_sync(over_asgi)(f"/{name}/{article.pk}/{token}/", token)
        assert body == b"ObjectLocked"
        assert Article.objects.get().title == "old"

    @pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators")
    @pytest.mark.parametrize("name", ["stream", "astream"])
    def test_over_asgi_a_stream_may_take_the_token_into_its_own_hand(self, article, token, name):
        body = async_to_sync(over_asgi)(f"/{name}/{article.pk}/{token}/", token)
        assert body == b"savedsaved"
        assert Article.objects.get().title == "line 1"

    def test_the_next_request_of_a_thread_sees_nothing_of_the_last(self, article, token):
        client = Client()
        assert client.get(f"/forget/{article.pk}/{token}/").status_code == 200
        assert context.current() == context.State()
        assert client.get(f"/save/{article.pk}/{token}/").status_code == 423
        assert Article.objects.get().title == "forgotten"
