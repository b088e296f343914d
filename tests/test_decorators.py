"""Views that lock what they work on, sync and async, over real requests."""

import threading
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import Group
from django.db import IntegrityError, connections, transaction
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from freezegun import freeze_time

from lock_tokens.decorators import holds_lock_on_object, locks_object
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.sessions import check_for_session, get_session_key, unlock_for_session
from lock_tokens.targets import target_for
from tests.app.models import Article, Line, Slug, Uuid

MODELS = {"article": Article, "slug": Slug, "uuid": Uuid}


class BoomError(Exception):
    pass


def work(request, name, pk):
    """Do what the query asks for, and say whether the session held the lock meanwhile."""
    obj = MODELS[name].objects.get(pk=pk)
    held = check_for_session(obj, request.session)
    match request.GET.get("do"):
        case "raise":
            raise BoomError
        case "unlock":
            unlock_for_session(obj, request.session)
        case "delete":
            obj.delete()
        case "break the transaction":
            with suppress(IntegrityError), transaction.atomic():
                Group.objects.create(pk=1, name="a")
                Group.objects.create(pk=1, name="b")
            transaction.set_rollback(True)
        case "fail in the database":
            Group.objects.create(name="twice")
            Group.objects.bulk_create([Group(name="twice")])
    return HttpResponse(f"held: {held}; threads: {threading.active_count()}")


def decorated(decorator, name, is_async):
    def view(request, pk):
        return work(request, name, pk)

    async def aview(request, pk):
        return await sync_to_async(work)(request, name, pk)

    decorate = decorator(MODELS[name], lambda request, pk: pk)
    return decorate(aview if is_async else view)


urlpatterns = [
    path(
        f"{'async' if is_async else 'sync'}/{decorator.__name__}/{name}/<str:pk>/",
        decorated(decorator, name, is_async),
    )
    for is_async in (False, True)
    for decorator in (locks_object, holds_lock_on_object)
    for name in MODELS
]

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)


class Browser:
    """A client of one kind of view; ``get`` works the same for both kinds."""

    def __init__(self, kind, decorator):
        self.root = f"/{kind}/{decorator}"
        self.client = Client() if kind == "sync" else AsyncClient()
        self._get = self.client.get if kind == "sync" else async_to_sync(self.client.get)

    def get(self, obj_or_path, **query):
        where = obj_or_path if isinstance(obj_or_path, str) else f"article/{obj_or_path.pk}"
        return self._get(f"{self.root}/{where}/", query)

    def holds(self, obj):
        return get_session_key(obj) in self.client.session


@pytest.fixture(params=["sync", "async"])
def kind(request):
    return request.param


@pytest.fixture(params=["locks_object", "holds_lock_on_object"])
def decorator(request):
    return request.param


@pytest.fixture
def browser(kind, decorator):
    return Browser(kind, decorator)


@pytest.fixture
def locks(kind):
    return Browser(kind, "locks_object")


@pytest.fixture
def holds(kind):
    return Browser(kind, "holds_lock_on_object")


@pytest.fixture
def clock():
    with freeze_time(NOON) as frozen:
        yield frozen


def test_the_object_is_locked_while_the_view_runs(browser, article):
    assert b"held: True" in browser.get(article).content


def test_locks_object_keeps_the_lock_for_the_session(locks, article):
    locks.get(article)
    assert LockableModel.is_locked(article)
    assert check_for_session(article, locks.client.session)
    assert locks.get(article).status_code == 200


def test_holds_lock_on_object_releases_the_lock(holds, article):
    holds.get(article)
    assert not LockToken.objects.exists()
    assert not holds.holds(article)


def test_no_thread_renews_the_lock_in_the_background(decorator, article):
    before = set(threading.enumerate())
    browser = Browser("sync", decorator)
    response = browser.get(article)
    assert response.content == f"held: True; threads: {len(before)}".encode()
    assert set(threading.enumerate()) == before


class TestMissing:
    @pytest.mark.parametrize(
        "where",
        [
            "article/999999",
            "article/x",
            "article/-1",
            f"article/{'9' * 40}",
            "article/1.5",
            "article/%00",
            f"uuid/{uuid4()}",
            "uuid/x",
            "uuid/%00",
            "slug/nothing",
            "slug/%00",
            f"slug/{'x' * 1000}",
        ],
    )
    def test_a_key_without_an_object_is_404(self, browser, where):
        assert browser.get(where).status_code == 404
        assert not LockToken.objects.exists()

    @pytest.mark.parametrize("key", [None, [], {}, object(), float("inf"), (1,), b"x"], ids=repr)
    @pytest.mark.parametrize("model", [Article, Uuid, Line])
    def test_what_is_no_key_at_all_is_404(self, rf, client, key, model):
        from django.http import Http404

        request = rf.get("/")
        request.session = client.session
        view = holds_lock_on_object(model, lambda request: key)(lambda request: HttpResponse())
        with pytest.raises(Http404):
            view(request)

    def test_an_object_whose_key_is_too_long_to_be_locked_is_404(self, browser):
        Slug.objects.create(slug="x" * 300)
        assert browser.get("slug/" + "x" * 300).status_code == 404


class TestLocked:
    def test_somebody_elses_lock_is_423_and_stays(self, browser, article, lock):
        token = lock(article)
        response = browser.get(article)
        assert response.status_code == 423
        assert response["Cache-Control"] == "no-store"
        assert 3590 <= int(response["Retry-After"]) <= 3600
        assert f"Article {article.pk} is already locked" in response.content.decode()
        assert token not in response.content.decode()
        assert LockableModel.check_lock(article, token)
        assert not browser.holds(article)

    def test_it_is_423_between_two_browsers_and_200_once_it_has_expired(
        self, kind, article, clock, locks
    ):
        other = Browser(kind, "locks_object")
        locks.get(article)
        assert other.get(article).status_code == 423
        clock.tick(timedelta(hours=1))
        assert other.get(article).status_code == 200

    def test_one_session_is_not_in_its_own_way(self, locks, article):
        for decorator in ("locks_object", "holds_lock_on_object", "locks_object"):
            locks.root = locks.root.rsplit("/", 1)[0] + "/" + decorator
            assert locks.get(article).status_code == 200


class TestRaising:
    def test_the_lock_that_was_taken_for_the_view_is_released(self, browser, article):
        with pytest.raises(BoomError):
            browser.get(article, do="raise")
        assert not LockToken.objects.exists()

    def test_locks_object_leaves_a_lock_that_the_session_had_before(self, locks, article):
        locks.get(article)
        token = LockToken.objects.get().token_str
        with pytest.raises(BoomError):
            locks.get(article, do="raise")
        assert LockableModel.check_lock(article, token)
        assert locks.get(article).status_code == 200

    def test_holds_lock_on_object_releases_even_that(self, kind, locks, article):
        locks.get(article)
        locks.root = f"/{kind}/holds_lock_on_object"
        with pytest.raises(BoomError):
            locks.get(article, do="raise")
        assert not LockToken.objects.exists()


class TestStaleToken:
    @pytest.fixture
    def stale(self, locks, article, lock, clock):
        """A browser whose session has a token that somebody else made stale."""
        locks.get(article)
        clock.tick(timedelta(days=1))
        LockableModel.unlock(article, lock(article))
        return locks

    @pytest.mark.parametrize("then", ["locks_object", "holds_lock_on_object"])
    def test_it_heals_by_a_fresh_lock(self, kind, stale, article, then):
        stale.root = f"/{kind}/{then}"
        for _ in range(3):
            response = stale.get(article)
            assert response.status_code == 200
            assert b"held: True" in response.content

    def test_it_is_423_as_long_as_somebody_else_has_the_lock(self, stale, article, lock):
        token = lock(article)
        assert stale.get(article).status_code == 423
        LockableModel.unlock(article, token)
        assert stale.get(article).status_code == 200

    def test_a_lock_that_took_its_place_is_released_when_the_view_raises(self, stale, article):
        with pytest.raises(BoomError):
            stale.get(article, do="raise")
        assert not LockToken.objects.exists()


@pytest.mark.parametrize("do", ["unlock", "delete"])
def test_a_view_may_release_the_lock_itself_or_delete_the_object(browser, article, do):
    assert browser.get(article, do=do).status_code == 200
    assert do == "delete" or not LockToken.objects.exists()
    assert not browser.holds(article) or browser.root.endswith("locks_object")


class TestAtomicRequests:
    """Each request is one real transaction, as ATOMIC_REQUESTS makes it; sync views only."""

    pytestmark = pytest.mark.django_db(transaction=True)

    @pytest.fixture(autouse=True)
    def _atomic_requests(self, monkeypatch):
        monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)

    @pytest.fixture
    def kind(self):
        return "sync"

    def test_the_object_is_locked_while_the_view_runs_and_after_as_it_should(
        self, browser, article, decorator
    ):
        assert b"held: True" in browser.get(article).content
        assert LockToken.objects.exists() is (decorator == "locks_object")

    @pytest.mark.parametrize(
        ("do", "error"), [("raise", BoomError), ("fail in the database", IntegrityError)]
    )
    def test_the_error_of_the_view_comes_through_and_nothing_stays(
        self, browser, article, do, error
    ):
        with pytest.raises(error):
            browser.get(article, do=do)
        assert not LockToken.objects.exists()
        assert browser.get(article).status_code == 200

    def test_a_view_may_break_its_transaction(self, browser, article):
        assert browser.get(article, do="break the transaction").status_code == 200
        assert not LockToken.objects.exists()
        assert browser.get(article).status_code == 200

    def test_somebody_elses_lock_is_423(self, browser, article, lock):
        token = lock(article)
        assert browser.get(article).status_code == 423
        assert LockableModel.check_lock(article, token)

    def test_a_stale_token_heals(self, browser, article):
        Browser.get(browser, article)
        LockToken.objects.all().delete()
        assert browser.get(article).status_code == 200


def test_the_decorated_view_keeps_its_name(decorator):
    def view(request):
        """Says what it does."""

    wrapped = {"locks_object": locks_object, "holds_lock_on_object": holds_lock_on_object}[
        decorator
    ](Article, lambda request: 1)(view)
    assert (wrapped.__name__, wrapped.__doc__) == ("view", "Says what it does.")


def test_composite_keys_are_found(rf, client):
    line = Line.objects.create(order=1, number=2)
    request = rf.get("/")
    request.session = client.session
    view = locks_object(Line, lambda request: (1, 2))(lambda request: HttpResponse("done"))
    assert view(request).content == b"done"
    assert LockToken.objects.get().locked_object_id == target_for(Line, line.pk, "default").key
