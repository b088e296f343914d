"""Commands and tasks that hold the lock of the object whose key they are called with."""

import asyncio
import contextvars
import inspect
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from uuid import UUID

import django
import pytest
from asgiref.sync import async_to_sync
from django.core.management import BaseCommand, CommandError, call_command
from django.db import connection, connections
from django.http import HttpResponse
from django.test import Client
from django.urls import path

from lock_tokens.enforcement import context, holding, locked, locks, suspended
from lock_tokens.exceptions import AlreadyLockedError, LockRequired, ObjectLocked
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.testing import hold_lock
from tests.app.models import AnyCase, Article, Bistro, Line, Uuid

pytestmark = pytest.mark.django_db

SHORT = 0.12


@pytest.fixture(autouse=True)
def enforced(settings):
    settings.LOCK_TOKENS = {
        "ENFORCED_MODELS": ["app.Article", "app.Line", "app.Uuid", "app.AnyCase", "app.Restaurant"]
    }


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert context.current() == context.State()


@pytest.fixture
def article():
    return Article.objects.create(title="old")


def retitle(pk, title="new"):
    article = Article.objects.get(pk=pk)
    article.title = title
    article.save()
    return LockToken.objects.count()


def title():
    return Article.objects.get().title


class Task:
    """What a task queue makes of a function: it is called by its name, with decoded JSON."""

    def __init__(self, function):
        self.function = function
        # As Celery does, to check a call before it is sent.
        self.spec = inspect.getfullargspec(function)
        self.name = f"{function.__module__}.{function.__qualname__}"

    def delay(self, *args, **kwargs):
        inspect.signature(self.function).bind(*args, **kwargs)
        return self.function(*json.loads(json.dumps(args)), **json.loads(json.dumps(kwargs)))


@Task
@locks(Article, "article_id")
def publish(article_id, title="published"):
    """Publish an article."""
    return retitle(article_id, title)


def in_thread(function):
    """Decorate a task to run in a worker thread that has a context of its own."""

    @wraps(function)
    def run(*args):
        def work():
            try:
                return contextvars.Context().run(function, *args)
            finally:
                connections.close_all()

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(work).result()

    return run


@locks(Article)
def locked_retitle(pk, title="new"):
    return retitle(pk, title)


class TestLocks:
    def test_the_function_runs_under_the_lock_of_the_object_that_is_passed(self, article):
        assert locked_retitle(article.pk) == 1
        assert locked_retitle(pk=article.pk, title="again") == 1
        assert title() == "again"
        assert not LockToken.objects.exists()
        with pytest.raises(LockRequired):
            retitle(article.pk)

    def test_the_object_may_be_found_in_keyword_arguments(self, article):
        @locks(Article)
        def write(*args, **options):
            return retitle(options["pk"], *args)

        assert write("new", pk=article.pk) == 1
        with pytest.raises(TypeError) as caught:
            write("new")
        assert str(caught.value).endswith("write() was called without 'pk' to lock by.")

    def test_a_default_is_a_key_like_another(self, article):
        @locks(Article)
        def write(pk=article.pk):
            return retitle(pk)

        assert write() == 1

    def test_a_method_and_a_positional_only_parameter(self, article):
        class Job:
            @locks(Article, "key")
            def run(self, key, /):
                return retitle(key)

        assert Job().run(article.pk) == 1

    def test_an_async_function(self, article):
        @locks(Article, wait=SHORT)
        async def write(pk):
            obj = await Article.objects.aget(pk=pk)
            obj.title = "new"
            await obj.asave()
            return await LockToken.objects.acount()

        assert async_to_sync(write)(article.pk) == 1
        assert title() == "new"
        assert not LockToken.objects.exists()
        with hold_lock(article), pytest.raises(AlreadyLockedError):
            async_to_sync(write)(article.pk)

    @pytest.mark.parametrize(
        "kind", [list, tuple, set, frozenset, lambda pks: dict.fromkeys(pks).keys()]
    )
    def test_several_keys_lock_all_of_them(self, kind):
        articles = [Article.objects.create(title="old") for _ in range(3)]

        @locks(Article, "pks")
        def write(pks):
            return [retitle(pk) for pk in sorted(pks)]

        assert write(kind(article.pk for article in articles)) == [3, 3, 3]
        assert not LockToken.objects.exists()
        with hold_lock(articles[1]), pytest.raises(AlreadyLockedError):
            write(kind(article.pk for article in articles))
        assert not LockToken.objects.exists()

    def test_the_keys_of_a_queryset_and_those_of_many_arguments(self, article):
        @locks(Article, "pks")
        def write(*pks):
            return [retitle(pk) for pk in pks]

        @locks(Article, "pks")
        def write_all(pks):
            return write(*pks)

        assert write_all(Article.objects.values_list("pk", flat=True)) == [1]

    def test_no_keys_lock_nothing(self, article):
        @locks(Article, "pks")
        def write(pks):
            retitle(article.pk)

        with pytest.raises(LockRequired):
            write([])

    def test_keys_of_other_kinds(self):
        uuid = Uuid.objects.create(id=UUID(int=7), name="a")
        lines = [Line.objects.create(order=1, number=number) for number in (1, 2)]

        def saver(model):
            @locks(model, "key")
            def save(key):
                for obj in model.objects.all():
                    obj.save()
                return LockToken.objects.count()

            return save

        assert saver(Uuid)(str(uuid.pk)) == saver(Uuid)(uuid.pk) == 1
        assert saver(Line)([line.pk for line in lines]) == 2
        assert saver(Line)([[1, 1], [1, 2]]) == 2
        with pytest.raises(LockRequired):
            saver(Line)((1, 1))
        with suspended(reason="the test"):
            lines[1].delete()
        assert saver(Line)((1, 1)) == saver(Line)([1, 1]) == 1

    def test_the_lock_of_a_child_is_that_of_its_parent(self):
        bistro = Bistro.objects.create(name="a")

        @locks(Bistro)
        def save(pk):
            bistro.save()
            return LockToken.objects.get().locked_object_id

        assert save(bistro.pk) == str(bistro.pk)

    def test_the_key_is_the_one_that_is_stored(self):
        AnyCase.objects.create(code="Key")

        @locks(AnyCase, "code")
        def save(code):
            AnyCase.objects.get(code="Key").save()

        save("Key")
        if connection.vendor == "postgresql":
            with pytest.raises(AnyCase.DoesNotExist):
                save("KEY")
        else:
            save("KEY")
        assert not LockToken.objects.exists()

    def test_what_is_locked_already_by_the_caller_is_renewed(self, article):
        with locked(article) as token:
            locked_retitle(article.pk)
            assert LockToken.objects.get().token_str == token
        assert not LockToken.objects.exists()

    def test_options(self, article):
        @locks(Article, wait=SHORT, timeout=7)
        def timeout(pk):
            return LockToken.objects.get().timeout

        assert timeout(article.pk) == 7

    @pytest.mark.parametrize("wait", [0, -1, "5"])
    def test_a_wrong_wait_is_told_at_once(self, wait):
        with pytest.raises((TypeError, ValueError), match=r"^wait is a"):
            locks(Article, wait=wait)


class TestRefusals:
    def test_a_locked_object(self, article):
        with hold_lock(article), pytest.raises(AlreadyLockedError):
            locked_retitle(article.pk)
        assert title() == "old"

    @pytest.mark.parametrize("pks", [0, [0], None])
    def test_an_object_that_does_not_exist(self, pks):
        with pytest.raises(Article.DoesNotExist):
            locked_retitle(pks)
        assert not LockToken.objects.exists()

    def test_one_of_several_that_does_not_exist(self, article):
        with pytest.raises(Article.DoesNotExist):
            locked_retitle([article.pk, 0])
        assert not LockToken.objects.exists()

    def test_what_is_no_key(self):
        with pytest.raises(ValueError, match="expected a number"):
            locked_retitle("x")

    def test_an_object_that_goes_while_it_is_waited_for(self, article):
        async def delete_then_release():
            async with locked(article):
                begun.set()
                await asyncio.sleep(SHORT)
                await article.adelete()

        async def main():
            task = asyncio.create_task(delete_then_release())
            await begun.wait()
            with pytest.raises(Article.DoesNotExist):
                await write(pk)
            await task

        @locks(Article, wait=30)
        async def write(pk):
            pass  # pragma: no cover

        pk, begun = article.pk, asyncio.Event()
        async_to_sync(main)()
        assert not LockToken.objects.exists()

    def test_an_error_of_the_function_releases_the_lock(self, article):
        @locks(Article)
        def fail(pk):
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail(article.pk)
        assert not LockToken.objects.exists()

    def test_a_parameter_that_is_not_there_is_told_at_once(self):
        def write(pk, **options):
            pass  # pragma: no cover

        def write_one(article_id):
            pass  # pragma: no cover

        with pytest.raises(TypeError) as caught:
            locks(Article)(write_one)
        assert str(caught.value).endswith("write_one() has no parameter 'pk' to lock by.")
        with pytest.raises(TypeError, match="has no parameter 'options' to lock by"):
            locks(Article, "options")(write)

    def test_a_call_that_does_not_fit_is_the_error_it_always_was(self):
        with pytest.raises(TypeError, match="missing a required argument: 'pk'"):
            locked_retitle()

    def test_a_generator(self):
        def lines(pk):
            yield  # pragma: no cover

        with pytest.raises(TypeError, match=r"^locks\(\) cannot decorate the generator"):
            locks(Article)(lines)

    @pytest.mark.parametrize("model", [retitle, "app.Article", None])
    def test_anything_but_a_model(self, model):
        with pytest.raises(TypeError, match=r"^locks\(\) needs a model, as in @locks\(Article\)"):
            locks(model)


class TestTaskQueues:
    def test_a_task_keeps_its_name_its_text_and_its_signature(self):
        assert publish.name == "tests.enforcement.test_tasks.publish"
        assert publish.function.__doc__ == "Publish an article."
        assert publish.spec.args == ["article_id", "title"]
        assert publish.spec.defaults == ("published",)
        assert publish.spec.varkw is None
        assert pickle.loads(pickle.dumps(locked_retitle)) is locked_retitle  # noqa: S301

    def test_a_task_runs_under_the_lock(self, article):
        assert publish.delay(article.pk) == 1
        assert publish.delay(article_id=article.pk, title="again") == 1
        assert title() == "again"

    @pytest.mark.django_db(transaction=True)
    def test_a_task_of_another_thread_is_not_its_senders(self, article):
        send = in_thread(locked_retitle)
        assert send(article.pk) == 1
        with locked(article), pytest.raises(AlreadyLockedError):
            send(article.pk)

    @pytest.mark.django_db(transaction=True)
    def test_a_token_may_go_with_the_message(self, article):
        @in_thread
        def work(pk, token):
            with holding(token):
                retitle(pk)

        token = LockableModel.lock(article)
        with pytest.raises(ObjectLocked):
            in_thread(retitle)(article.pk)
        work(article.pk, token["token"])
        assert title() == "new"


class TestCommands:
    def test_a_command_holds_the_lock_of_its_object(self, article, capsys):
        call_command("retitle", article.pk, title="by command")
        assert title() == "by command"
        assert capsys.readouterr().out == f"retitled {article.pk}\n"
        call_command("retitle", str(article.pk), "--title", "by shell")
        assert title() == "by shell"
        assert not LockToken.objects.exists()

    def test_a_locked_object_stops_it(self, article):
        with hold_lock(article), pytest.raises(AlreadyLockedError):
            call_command("retitle", article.pk)
        assert title() == "old"

    def test_a_missing_argument_is_the_commands_own_error(self):
        with pytest.raises(CommandError, match="the following arguments are required: pk"):
            call_command("retitle")

    def test_a_method_may_be_suspended(self, article):
        others = [Article.objects.create(title="old") for _ in range(2)]
        call_command("retitle", article.pk, all=True)
        assert set(Article.objects.values_list("title", flat=True)) == {"new"}
        with pytest.raises(LockRequired):
            others[0].save()

    @pytest.mark.parametrize("kind", ["holding", "suspended", "locks"])
    def test_handle_may_be_decorated(self, article, kind):
        block = {
            "holding": lambda: holding(LockableModel.lock(article)),
            "suspended": lambda: suspended(Article, reason="a command"),
            "locks": lambda: locks(Article),
        }[kind]()

        class Command(BaseCommand):
            def add_arguments(self, parser):
                parser.add_argument("pk", type=int)

            @block
            def handle(self, *args, **options):
                retitle(options["pk"])

        call_command(Command(), article.pk)
        assert title() == "new"


if django.VERSION >= (6, 0):
    from django.tasks import TaskResultStatus, task

    @task
    @locks(Article)
    def task_with_lock(pk):
        return retitle(pk)

    @task
    @locks(Article)
    async def async_task_with_lock(pk):
        obj = await Article.objects.aget(pk=pk)
        obj.title = "new"
        await obj.asave()

    @task(takes_context=True)
    @locks(Article)
    def task_with_context(context, pk):
        return retitle(pk)

    @task
    def task_without(pk):
        return retitle(pk)

    def enqueue(request, pk):
        result = task_without.enqueue(pk)
        return HttpResponse(result.status)

    urlpatterns = [path("<int:pk>/", enqueue)]

    class TestDjangoTasks:
        @pytest.fixture(autouse=True)
        def immediate(self, settings):
            settings.TASKS = {
                "default": {"BACKEND": "django.tasks.backends.immediate.ImmediateBackend"}
            }

        @pytest.mark.parametrize("task", [task_with_lock, async_task_with_lock, task_with_context])
        def test_a_task_runs_under_the_lock(self, article, task):
            result = task.enqueue(article.pk)
            assert result.status == TaskResultStatus.SUCCESSFUL, result.errors
            assert title() == "new"
            assert not LockToken.objects.exists()
            assert task.enqueue(pk=article.pk).status == TaskResultStatus.SUCCESSFUL

        @pytest.mark.parametrize("task", [task_with_lock, async_task_with_lock, task_with_context])
        def test_a_locked_object_fails_it(self, article, task):
            with hold_lock(article):
                result = task.enqueue(article.pk)
            assert result.errors[0].exception_class is AlreadyLockedError
            assert title() == "old"

        def test_an_immediate_task_sees_what_its_sender_has_in_hand(self, article):
            assert task_without.enqueue(article.pk).errors[0].exception_class is LockRequired
            with locked(article):
                assert task_without.enqueue(article.pk).errors == []
                assert task_with_lock.enqueue(article.pk).return_value == 1

        def test_an_immediate_task_sees_the_tokens_of_its_request(self, article, settings):
            settings.ROOT_URLCONF = __name__
            token = LockableModel.lock(article)["token"]
            response = Client().get(f"/{article.pk}/")
            assert response.text == TaskResultStatus.FAILED
            response = Client().get(f"/{article.pk}/", headers={"x-lock-token": token})
            assert response.text == TaskResultStatus.SUCCESSFUL
