"""A real project on Django REST framework: what its clients send and get."""

import http.client
import json
import re
import subprocess
import sys
import textwrap
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from types import ModuleType
from urllib.parse import urlencode, urlsplit

import pytest
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.db import connection
from django.urls import include, path, reverse
from freezegun import freeze_time
from rest_framework.exceptions import APIException
from rest_framework.test import APIClient, APIRequestFactory

from lock_tokens import signals
from lock_tokens.contrib.rest_framework import LockRefused, exception_handler
from lock_tokens.enforcement import context, holding
from lock_tokens.exceptions import LockRequired
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.sessions import get_session_key
from lock_tokens.testing import hold_lock
from tests.app.models import Article, Slug
from tests.contrib import drf_project
from tests.contrib.drf_project import PlainViewSet

pytestmark = pytest.mark.django_db

NOON = "2026-11-22 12:00:00"
ONE_O_CLOCK = "2026-11-22 13:00:00 UTC"
WRONG = "0" * 32
PROBLEM = "application/problem+json"
PAGE = "text/html; charset=utf-8"
HANDLER = "lock_tokens.contrib.rest_framework.exception_handler"
MIDDLEWARE = "lock_tokens.enforcement.middleware.LockTokenMiddleware"
FORM, MULTIPART, JSON = (
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=BoUnDaRy",
    "application/json",
)
STATUSES = [
    ("AlreadyLockedError", 423),
    ("ObjectLocked", 423),
    ("LockRequired", 428),
    ("InvalidToken", 412),
    ("StaleToken", 412),
    ("UnlockForbiddenError", 403),
    ("WriteRefused", 403),
]


class RemoteUser:
    """Somebody whom another service vouches for; the database has no such user."""

    pk = 4711
    is_authenticated = True


@pytest.fixture(autouse=True)
def project(settings):
    settings.ROOT_URLCONF = "tests.contrib.drf_project"
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article", "app.Slug"]}


@pytest.fixture
def clock():
    with freeze_time(NOON) as clock:
        yield clock


@pytest.fixture(params=["with the middleware", "without the middleware"])
def either_way(request, settings):
    if request.param == "without the middleware":
        settings.MIDDLEWARE = [path for path in settings.MIDDLEWARE if path != MIDDLEWARE]


@pytest.fixture
def api():
    return APIClient()


@pytest.fixture
def article():
    return Article.objects.create(title="old")


@pytest.fixture
def url(article):
    return url_of(article)


@pytest.fixture
def lock_url(article):
    return lock_url_of(article)


def url_of(article, view="article"):
    return reverse(f"{view}-detail", args=[article.pk])


def lock_url_of(article, view="article"):
    return reverse(f"{view}-lock", args=[article.pk])


def stale_token_of(obj):
    token = LockableModel.lock(obj)["token"]
    LockableModel.unlock(obj, token)
    return token


def remember(client, obj, token):
    """Put ``token`` into the session of ``client`` as ``lock_for_session`` does."""
    session = client.session
    session[get_session_key(obj)] = token
    session.save()
    client.cookies["sessionid"] = session.session_key


def basic(user):
    return "Basic " + b64encode(f"{user.username}:secret".encode()).decode()


def person(name, *permissions, **fields):
    user = User.objects.create_user(name, password="secret", **fields)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


def title():
    return Article.objects.order_by("pk").first().title


def send(api, method, url, token=None):
    headers = {} if token is None else {"X-Lock-Token": token}
    data = None if method == "delete" else {"title": "new"}
    return getattr(api, method)(url, data, format="json", headers=headers)


WRITES = [("put", 200), ("patch", 200), ("delete", 204)]


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(("method", "success"), WRITES)
class TestWritesOfTheResource:
    def test_the_token_in_the_header_allows_it(self, api, url, article, method, success):
        token = LockableModel.lock(article)["token"]
        assert send(api, method, url, token).status_code == success
        assert not Article.objects.filter(title="old").exists()

    def test_the_token_may_be_one_of_several(self, api, url, article, method, success):
        token = LockableModel.lock(article)["token"]
        assert send(api, method, url, f"{WRONG}, {token}").status_code == success

    def test_nothing_is_refused_with_428(self, api, url, method, success):
        assert send(api, method, url).status_code == 428
        assert title() == "old"

    def test_nothing_is_refused_with_423_while_somebody_has_the_lock(
        self, api, url, article, method, success
    ):
        with hold_lock(article):
            assert send(api, method, url).status_code == 423
            assert send(api, method, url, WRONG).status_code == 423
        assert title() == "old"

    def test_a_stale_token_is_refused_with_412(self, api, url, article, method, success):
        assert send(api, method, url, stale_token_of(article)).status_code == 412
        assert title() == "old"

    def test_the_session_speaks_only_for_requests_without_a_token(
        self, api, url, article, method, success
    ):
        remember(api, article, LockableModel.lock(article)["token"])
        assert send(api, method, url, WRONG).status_code == 423
        assert send(api, method, url, "").status_code == 423
        assert send(api, method, url).status_code == success

    def test_without_enforcement_the_same_write_passes(
        self, api, url, article, settings, method, success
    ):
        settings.LOCK_TOKENS = {}
        with hold_lock(article):
            assert send(api, method, url).status_code == success
        assert not Article.objects.filter(title="old").exists()

    def test_101_tokens_are_a_bad_request(self, api, url, method, success):
        assert send(api, method, url, ",".join([WRONG] * 101)).status_code == 400
        assert title() == "old"


class TestRefusals:
    def test_a_423_says_what_until_when_and_when_to_come_back(self, api, url, article, clock):
        with hold_lock(article):
            response = send(api, "put", url)
        detail = (
            f"app.Article {article.pk} was not written: it is locked and the token of that lock "
            "was not presented. Locked since 2026-11-22 12:00:00+00:00 until "
            "2026-11-22 13:00:00+00:00."
        )
        assert response.json() == {
            "title": "Locked",
            "status": 423,
            "detail": detail,
            "type": "urn:django-lock-tokens:ObjectLocked",
            "object": {"model": "app.Article", "pk": str(article.pk)},
            "lock": {
                "since": "2026-11-22T12:00:00+00:00",
                "until": "2026-11-22T13:00:00+00:00",
                "by": None,
            },
        }
        assert response["Content-Type"] == PROBLEM
        assert response["Retry-After"] == "3600"
        assert response["Cache-Control"] == "no-store"

    @pytest.mark.parametrize(("passed", "wait"), [(0, "10"), (8.5, "2"), (9.2, "1"), (9.999, "1")])
    def test_retry_after_is_rounded_up(self, api, lock_url, article, clock, passed, wait):
        LockableModel.lock(article, timeout=10)
        clock.tick(timedelta(seconds=passed))
        response = api.post(lock_url)
        assert response.status_code == 423
        assert response["Retry-After"] == wait

    @pytest.mark.parametrize(("name", "status"), STATUSES)
    def test_each_error_has_its_status_by_the_mixin_alone(self, api, name, status):
        response = api.get(reverse("article-fail", args=[name]))
        assert_problem(response, name, status)

    @pytest.mark.parametrize(("name", "status"), STATUSES)
    @pytest.mark.parametrize("view", ["article-fail", "plain-fail", "fail"])
    def test_each_error_has_its_status_by_the_handler(self, api, settings, view, name, status):
        settings.REST_FRAMEWORK = {"EXCEPTION_HANDLER": HANDLER}
        assert_problem(api.get(reverse(view, args=[name])), name, status)

    def test_without_both_rest_framework_answers_403(self, api, article):
        """Which is what the handler and the mixin are for."""
        assert send(api, "put", url_of(article, "plain")).status_code == 403

    def test_the_handler_leaves_other_errors_to_rest_framework(self, api, settings):
        settings.REST_FRAMEWORK = {"EXCEPTION_HANDLER": HANDLER}
        response = api.get(reverse("plain-detail", args=[0]))
        assert response.status_code == 404
        assert response.json() == {"detail": "No Article matches the given query."}
        assert response["Content-Type"] == JSON

    def test_no_token_is_answered(self, api, url, article):
        token = LockableModel.lock(article)["token"]
        response = send(api, "put", url, WRONG)
        said = response.content.decode() + str(response.headers)
        assert token not in said
        assert WRONG not in said

    @pytest.mark.parametrize(("name", "status"), STATUSES)
    def test_handlers_are_given_exceptions_of_rest_framework(self, name, status):
        request = APIRequestFactory().get("/")
        error = drf_project.ERRORS[name](model_label="app.Article", pk=1)
        refused = LockRefused(error, request)
        assert isinstance(refused, APIException)
        assert refused.status_code == status
        assert str(refused.detail) == str(error)
        assert refused.error is error
        assert refused.get_full_details()["code"] == refused.get_codes() == refused.detail.code

    @pytest.mark.parametrize(
        ("name", "code"),
        [
            ("ObjectLocked", "locked"),
            ("LockRequired", "lock_required"),
            ("StaleToken", "stale_lock_token"),
            ("UnlockForbiddenError", "unlock_forbidden"),
        ],
    )
    def test_handlers_are_given_a_code(self, name, code):
        error = drf_project.ERRORS[name]()
        assert LockRefused(error, APIRequestFactory().get("/")).get_codes() == code


def assert_problem(response, name, status):
    assert response.status_code == status
    assert response["Content-Type"] == PROBLEM
    assert response["Cache-Control"] == "no-store"
    assert response.json()["status"] == status
    assert response.json()["type"] == f"urn:django-lock-tokens:{name}"


class TestHandlersOfTheProjectsOwn:
    @pytest.fixture
    def handle_with(self, settings):
        def use(name):
            path = f"tests.contrib.drf_project.{name}"
            settings.REST_FRAMEWORK = {"EXCEPTION_HANDLER": path}

        return use

    def test_says_what_it_likes_with_our_status_and_headers(
        self, api, url, article, clock, handle_with
    ):
        handle_with("own_handler")
        with hold_lock(article):
            response = send(api, "put", url)
        assert response.status_code == 423
        assert response.json()["error"] == "locked"
        assert response.json()["text"].startswith(f"app.Article {article.pk} was not written:")
        assert response["Content-Type"] == JSON
        assert response["Retry-After"] == "3600"
        assert response["Cache-Control"] == "no-store"

    def test_may_build_on_that_of_rest_framework(self, api, url, handle_with):
        handle_with("decorating_handler")
        response = send(api, "put", url)
        assert response.status_code == 428
        assert response.json()["status_code"] == 428
        assert response.json()["detail"].endswith("lock_tokens.enforcement.locked).")

    def test_what_it_does_not_answer_the_middleware_does(self, api, url, handle_with):
        handle_with("handler_that_gives_up")
        response = send(api, "put", url)
        assert response.status_code == 428
        assert response["Content-Type"] == PROBLEM

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize(
        "name", ["own_handler", "decorating_handler", "handler_that_gives_up", None]
    )
    def test_the_request_is_rolled_back_where_requests_are_atomic(
        self, api, article, handle_with, monkeypatch, name
    ):
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
        if name:
            handle_with(name)
        url = url_of(article, "logging")
        assert send(api, "put", url).status_code == 428
        assert Article.objects.count() == 1
        token = LockableModel.lock(article)["token"]
        assert send(api, "put", url, token).status_code == 200
        assert Article.objects.count() == 2

    @pytest.mark.django_db(transaction=True)
    def test_without_a_transaction_there_is_nothing_to_roll_back(self, api, article):
        assert send(api, "put", url_of(article, "logging")).status_code == 428
        assert Article.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_the_handler_alone_rolls_back_too(article, monkeypatch, settings):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    settings.REST_FRAMEWORK = {"EXCEPTION_HANDLER": HANDLER}
    monkeypatch.setattr(
        PlainViewSet, "perform_update", drf_project.LoggingViewSet.perform_update, raising=False
    )
    assert send(APIClient(), "put", url_of(article, "plain")).status_code == 428
    assert Article.objects.count() == 1


class TestWhoIsToldTheHolder:
    """Those whom REST framework has authenticated, not those whom Django's middleware has."""

    @pytest.fixture
    def held(self, article):
        with hold_lock(article, by=person("alice")):
            yield article

    @staticmethod
    def told(api, article, view="article"):
        refused = send(api, "put", url_of(article, view)).json()
        status = api.get(lock_url_of(article, view)).json()
        assert status["locked"]
        [named] = {refused["lock"]["by"], status["locked_by"]}
        assert ("alice" in refused["detail"]) == (named == "alice")
        return named

    def test_nobody_else(self, api, held):
        assert self.told(api, held) is None

    def test_by_session(self, api, held):
        api.force_login(person("bob"))
        assert self.told(api, held) == "alice"

    @pytest.mark.parametrize("view", ["article", "basic-only"])
    def test_by_the_authorization_header(self, api, held, view):
        api.credentials(HTTP_AUTHORIZATION=basic(person("bob")))
        assert self.told(api, held, view) == "alice"

    def test_not_by_a_session_that_the_view_does_not_recognise(self, api, held):
        api.force_login(person("bob"))
        assert self.told(api, held, "basic-only") is None

    def test_everybody_where_the_setting_says_so(self, api, held, settings):
        settings.LOCK_TOKENS = {**settings.LOCK_TOKENS, "SHOW_HOLDER": True}
        assert self.told(api, held) == "alice"

    def test_nobody_where_the_setting_says_so(self, api, held, settings):
        settings.LOCK_TOKENS = {**settings.LOCK_TOKENS, "SHOW_HOLDER": False}
        api.credentials(HTTP_AUTHORIZATION=basic(person("bob")))
        assert self.told(api, held) is None

    def test_projects_without_a_user_for_strangers(self, api, held, settings):
        settings.REST_FRAMEWORK = {"UNAUTHENTICATED_USER": None}
        assert self.told(api, held) is None


@pytest.mark.usefixtures("clock", "either_way")
class TestTheLockOfAResource:
    def test_post_takes_it(self, api, lock_url, article):
        response = api.post(lock_url)
        token = LockToken.objects.get_for_object(article).token_str
        assert response.status_code == 201
        assert response.json() == {"token": token, "expires": ONE_O_CLOCK}
        assert response["Timeout"] == "Second-3600"
        assert response["Cache-Control"] == "no-store"
        assert response["Content-Type"] == JSON

    def test_taken_locked_written_released(self, api, url, lock_url, article):
        token = api.post(lock_url).json()["token"]
        assert send(api, "put", url).status_code == 423
        assert send(api, "put", url, token).status_code == 200
        assert send(api, "delete", lock_url, token).status_code == 204
        assert send(api, "put", url, token).status_code == 412
        assert title() == "new"

    def test_post_is_refused_while_it_is_locked_to_its_holder_too(self, api, lock_url, article):
        token = api.post(lock_url).json()["token"]
        response = api.post(lock_url, headers={"X-Lock-Token": token})
        assert_problem(response, "AlreadyLockedError", 423)
        assert response["Retry-After"] == "3600"
        assert token not in response.content.decode()

    def test_post_takes_over_an_expired_lock(self, api, url, lock_url, clock):
        stale = api.post(lock_url).json()["token"]
        clock.tick(timedelta(hours=1))
        token = api.post(lock_url).json()["token"]
        assert send(api, "put", url, stale).status_code == 423
        assert send(api, "put", url, token).status_code == 200

    def test_the_timeout_is_that_of_the_model(self, api, lock_url, settings):
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": {"app.Article": {"TIMEOUT": 60}}}
        assert api.post(lock_url)["Timeout"] == "Second-60"

    def test_patch_renews_it(self, api, lock_url, article, clock):
        token = api.post(lock_url).json()["token"]
        clock.tick(timedelta(minutes=30))
        response = api.patch(lock_url, headers={"X-Lock-Token": token})
        assert response.status_code == 200
        assert response.json() == {"token": token, "expires": "2026-11-22 13:30:00 UTC"}
        assert response["Timeout"] == "Second-3600"
        assert response["Cache-Control"] == "no-store"

    def test_patch_renews_an_expired_lock_that_nobody_took(self, api, lock_url, clock):
        token = api.post(lock_url).json()["token"]
        clock.tick(timedelta(days=1))
        assert send(api, "patch", lock_url, token).status_code == 200

    def test_delete_releases_it(self, api, lock_url, article):
        token = api.post(lock_url).json()["token"]
        response = api.delete(lock_url, headers={"X-Lock-Token": token})
        assert response.status_code == 204
        assert response.content == b""
        assert not LockToken.objects.exists()

    @pytest.mark.parametrize("method", ["patch", "delete"])
    def test_one_of_several_tokens(self, api, lock_url, method):
        token = api.post(lock_url).json()["token"]
        assert send(api, method, lock_url, f"{WRONG},{token}").status_code in (200, 204)

    @pytest.mark.parametrize("token", [WRONG, f"{WRONG},{WRONG}", "ü", "x" * 5000])
    @pytest.mark.parametrize("held", [True, False])
    def test_patch_with_a_wrong_token_is_412(self, api, lock_url, token, held):
        if held:
            api.post(lock_url)
        assert_problem(send(api, "patch", lock_url, token), "InvalidToken", 412)

    @pytest.mark.parametrize("token", [WRONG, f"{WRONG},{WRONG}", "ü", "x" * 5000])
    @pytest.mark.parametrize("held", [True, False])
    def test_delete_with_a_wrong_token_is_403(self, api, lock_url, token, held):
        if held:
            api.post(lock_url)
        assert_problem(send(api, "delete", lock_url, token), "UnlockForbiddenError", 403)
        assert LockToken.objects.exists() is held

    @pytest.mark.parametrize("token", [None, "", " , "])
    @pytest.mark.parametrize("method", ["patch", "delete"])
    def test_without_a_token_both_are_428(self, api, lock_url, method, token):
        api.post(lock_url)
        response = send(api, method, lock_url, token)
        assert_problem(response, "LockRequired", 428)
        assert response.json()["detail"] == (
            "The token of the lock is missing: send it in the header X-Lock-Token."
        )
        assert LockToken.objects.exists()

    @pytest.mark.parametrize("method", ["patch", "delete"])
    def test_101_tokens_are_a_bad_request(self, api, lock_url, method):
        assert send(api, method, lock_url, ",".join([WRONG] * 101)).status_code == 400

    def test_the_header_has_the_name_that_the_setting_gives_it(self, api, lock_url, settings):
        settings.LOCK_TOKENS = {**settings.LOCK_TOKENS, "TOKEN_HEADER": "If-Lock"}
        token = api.post(lock_url).json()["token"]
        response = send(api, "patch", lock_url, token)
        assert response.status_code == 428
        assert response.json()["detail"].endswith("send it in the header If-Lock.")
        assert api.delete(lock_url, headers={"If-Lock": token}).status_code == 204

    def test_get_tells_the_status(self, api, lock_url, article):
        free = {"locked": False, "expires": None, "locked_by": None}
        response = api.get(lock_url)
        assert response.status_code == 200
        assert response.json() == free
        assert response["Cache-Control"] == "no-store"
        token = api.post(lock_url).json()["token"]
        response = api.get(lock_url)
        assert response.json() == {"locked": True, "expires": ONE_O_CLOCK, "locked_by": None}
        assert token not in response.content.decode()

    def test_an_expired_lock_is_none(self, api, lock_url, clock):
        api.post(lock_url)
        clock.tick(timedelta(hours=1))
        assert api.get(lock_url).json()["locked"] is False

    @pytest.mark.parametrize("method", ["get", "head", "options"])
    def test_asking_takes_no_lock(self, api, lock_url, method):
        assert getattr(api, method)(lock_url).status_code == 200
        assert not LockToken.objects.exists()

    def test_put_is_not_allowed(self, api, lock_url):
        assert api.put(lock_url).status_code == 405

    @pytest.mark.parametrize("method", ["get", "post", "patch", "delete"])
    def test_the_lock_of_nothing_is_404(self, api, article, method):
        for pk in (article.pk + 1, "x", "9" * 30):
            url = reverse("article-lock", args=[pk])
            assert send(api, method, url, WRONG).status_code == 404
        assert not LockToken.objects.exists()

    def test_it_is_taken_in_the_name_of_the_user(self, api, lock_url, article):
        bob = person("bob")
        api.credentials(HTTP_AUTHORIZATION=basic(bob))
        api.post(lock_url)
        assert LockToken.objects.get_for_object(article).locked_by == bob
        assert api.get(lock_url).json()["locked_by"] == "bob"

    @pytest.mark.parametrize("somebody", [AnonymousUser(), RemoteUser()])
    def test_it_is_nobodys_when_the_user_is_none_of_the_database(
        self, api, lock_url, article, somebody
    ):
        api.force_authenticate(somebody)
        assert api.post(lock_url).status_code == 201
        assert LockToken.objects.get_for_object(article).locked_by is None

    def test_a_viewset_that_only_reads_can_have_it_too(self, api, article):
        assert api.post(lock_url_of(article, "read-only")).status_code == 201

    def test_it_is_the_lock_of_the_object_however_it_is_looked_up(self, api, url, article):
        lock_url = reverse("by-title-lock", args=["old"])
        token = api.post(lock_url).json()["token"]
        assert LockToken.objects.get_for_object(article).token_str == token
        assert send(api, "put", url, token).status_code == 200
        assert send(api, "delete", reverse("by-title-lock", args=["new"]), token).status_code == 204

    @pytest.mark.parametrize("slug", ["A/b c", "Ünï?#%.", "lock", "a/lock/b", "x.json"])
    def test_keys_of_any_text(self, api, slug):
        obj = Slug.objects.create(slug=slug)
        url, lock_url = (reverse(f"slug-{part}", args=[slug]) for part in ("detail", "lock"))
        token = api.post(lock_url).json()["token"]
        assert LockToken.objects.get_for_object(obj).token_str == token
        data = {"name": "new"}
        assert api.patch(url, data, format="json").status_code == 423
        response = api.patch(url, data, format="json", headers={"X-Lock-Token": token})
        assert response.status_code == 200
        assert send(api, "delete", lock_url, token).status_code == 204

    def test_a_key_too_long_for_a_lock_is_404(self, api):
        Slug.objects.create(slug="x" * 300)
        assert api.post(reverse("slug-lock", args=["x" * 300])).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_the_lock_where_requests_are_atomic(api, url, lock_url, article, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    token = api.post(lock_url).json()["token"]
    assert LockToken.objects.get_for_object(article).token_str == token
    assert api.post(lock_url).status_code == 423
    assert send(api, "patch", lock_url, WRONG).status_code == 412
    assert send(api, "delete", lock_url, WRONG).status_code == 403
    assert send(api, "patch", lock_url, token).status_code == 200
    assert send(api, "put", url, token).status_code == 200
    assert send(api, "delete", lock_url, token).status_code == 204
    assert not LockToken.objects.exists()


@pytest.mark.django_db(transaction=True)
class TestAnObjectThatVanishes:
    """Deleted after it was looked up, before its lock is held; the signal is sent in between."""

    @pytest.fixture
    def meanwhile(self, settings):
        # Otherwise the guard would not let anybody do it.
        settings.LOCK_TOKENS = {}
        receivers = []

        def connect(receiver):
            receivers.append(receiver)
            signals.object_locked.connect(receiver, sender=Article)

        yield connect
        for receiver in receivers:
            assert signals.object_locked.disconnect(receiver, sender=Article)

    def test_leaves_no_lock(self, api, article, lock_url, meanwhile):
        def delete(pk, **kwargs):
            Article.objects.filter(pk=pk).delete()

        meanwhile(delete)
        assert api.post(lock_url).status_code == 404
        assert not Article.objects.exists()
        assert not LockToken.objects.exists()

    def test_nor_when_another_has_its_place(self, api, article, meanwhile):
        def replace(pk, **kwargs):
            Article.objects.filter(pk=pk).update(title="other")
            Article.objects.create(title="old")

        meanwhile(replace)
        assert api.post(reverse("by-title-lock", args=["old"])).status_code == 404
        assert not LockToken.objects.exists()

    def test_while_it_stays_the_lock_stays(self, api, article, lock_url, meanwhile):
        seen = []

        def look(pk, **kwargs):
            seen.append(pk)

        meanwhile(look)
        assert api.post(lock_url).status_code == 201
        assert seen == [article.pk]
        assert LockToken.objects.exists()


class TestPermissions:
    """Who may PATCH the resource may lock it; who may GET it may see its status."""

    def allowed(self, api, article, view, user):
        """Return which of the methods of the lock ``user`` may use, and leave it unlocked."""
        url = lock_url_of(article, view)
        if user:
            api.credentials(HTTP_AUTHORIZATION=basic(user))
        found = {"get"} if api.get(url).status_code == 200 else set()
        if api.post(url).status_code == 201:
            found.add("post")
            LockableModel.unlock(article, LockToken.objects.get().token_str)
        for method in ("patch", "delete"):
            with hold_lock(article) as token:
                if send(api, method, url, token).status_code in (200, 204):
                    found.add(method)
        assert not LockToken.objects.exists()
        return found

    ALL = {"get", "post", "patch", "delete"}

    @pytest.mark.parametrize(
        ("permissions", "methods"),
        [
            ([], {"get"}),
            (["add_article", "delete_article", "view_article"], {"get"}),
            (["change_article"], ALL),
        ],
    )
    def test_the_permission_to_change_is_needed(self, api, article, permissions, methods):
        user = person("bob", *permissions)
        assert self.allowed(api, article, "by-model-permission", user) == methods

    def test_strangers_are_kept_out(self, api, article):
        assert self.allowed(api, article, "by-model-permission", None) == set()

    @pytest.mark.parametrize("view", ["by-object-permission", "by-queryset"])
    @pytest.mark.parametrize(("name", "methods"), [("old", ALL), ("bob", {"get"})])
    def test_that_of_the_object_counts(self, api, article, view, name, methods):
        assert self.allowed(api, article, view, person(name)) == methods

    @pytest.mark.parametrize(("staff", "methods"), [(True, ALL), (False, {"get"})])
    def test_permissions_may_depend_on_the_action(self, api, article, staff, methods):
        user = person("bob", is_staff=staff)
        assert self.allowed(api, article, "by-action", user) == methods

    def test_the_resource_itself_is_asked_as_ever(self, api, article):
        api.credentials(HTTP_AUTHORIZATION=basic(person("bob", "change_article")))
        list_url = reverse("by-model-permission-list")
        assert api.post(list_url, {"title": "x"}).status_code == 403
        url = url_of(article, "by-model-permission")
        token = LockableModel.lock(article)["token"]
        assert send(api, "delete", url, token).status_code == 403
        assert send(api, "put", url, token).status_code == 200


def encoded(data, content_type):
    if content_type == JSON:
        return json.dumps(data)
    if content_type == FORM:
        return urlencode(data)
    parts = (
        f'--BoUnDaRy\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in data.items()
    )
    return "".join(parts) + "--BoUnDaRy--\r\n"


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("order", ["write-first", "read-first"])
@pytest.mark.parametrize("method", ["POST", "PUT"])
class TestForms:
    """The guard asks for the form field before or after the view has parsed the body."""

    @pytest.fixture
    def send(self, api, article, order, method):
        url = reverse(f"article-{order}", args=[article.pk])

        def send(data, content_type, token=None):
            headers = {"X-Lock-Token": token} if token else {}
            body = encoded(data, content_type)
            return api.generic(method, url, body, content_type=content_type, headers=headers)

        return send

    @pytest.mark.parametrize("content_type", [FORM, MULTIPART, JSON])
    def test_a_token_in_the_header_leaves_the_body_to_the_view(self, send, article, content_type):
        token = LockableModel.lock(article)["token"]
        response = send({"a": "1"}, content_type, token)
        assert response.status_code == 200
        assert response.json() == {"a": "1"}

    @pytest.mark.parametrize("content_type", [FORM, MULTIPART])
    def test_a_token_in_the_form_leaves_the_rest_to_the_view(self, send, article, content_type):
        data = {"a": "1", "lock_token": LockableModel.lock(article)["token"]}
        response = send(data, content_type)
        assert response.status_code == 200
        assert response.json() == data

    @pytest.mark.parametrize("content_type", [FORM, MULTIPART])
    @pytest.mark.parametrize("field", [WRONG, ""])
    def test_an_old_form_is_refused_although_the_session_has_the_lock(
        self, api, send, article, content_type, field
    ):
        remember(api, article, LockableModel.lock(article)["token"])
        assert send({"lock_token": field}, content_type).status_code == 423
        assert title() == "old"
        assert send({"a": "1"}, content_type).status_code == 200

    @pytest.mark.parametrize("content_type", [FORM, MULTIPART])
    def test_a_form_that_was_made_without_a_lock_is_not_stale(self, send, content_type):
        assert send({"lock_token": ""}, content_type).status_code == 428
        assert send({"lock_token": WRONG}, content_type).status_code == 412

    @pytest.mark.parametrize("content_type", [FORM, MULTIPART])
    def test_header_and_form_are_both_read(self, send, article, content_type):
        token = LockableModel.lock(article)["token"]
        assert send({"lock_token": WRONG}, content_type, token).status_code == 200

    def test_in_json_the_field_is_no_token(self, send, article):
        token = LockableModel.lock(article)["token"]
        assert send({"lock_token": token}, JSON).status_code == 423

    def test_an_empty_form_leaves_the_session_to_speak(self, api, send, article):
        remember(api, article, LockableModel.lock(article)["token"])
        assert send({}, FORM).status_code == 200
        assert send({}, MULTIPART).status_code == 200

    @pytest.mark.parametrize("content_type", [FORM, MULTIPART])
    def test_too_many_tokens_are_a_bad_request(self, send, article, content_type):
        tokens = ",".join([WRONG] * 100)
        assert send({"lock_token": WRONG}, content_type, tokens).status_code == 400
        assert title() == "old"


class TestFormsThatTheViewDoesNotParse:
    @pytest.mark.parametrize("content_type", [FORM, MULTIPART])
    @pytest.mark.parametrize("order", ["write-first", "read-first"])
    @pytest.mark.parametrize("method", ["POST", "PUT"])
    def test_do_not_let_the_session_speak_for_them(self, api, article, content_type, order, method):
        remember(api, article, LockableModel.lock(article)["token"])
        url = reverse(f"json-only-{order}", args=[article.pk])
        body = encoded({"lock_token": WRONG}, content_type)
        response = api.generic(method, url, body, content_type)
        assert response.status_code == 415
        assert title() == "old"

    @pytest.mark.parametrize("method", ["POST", "PUT"])
    def test_nor_for_those_that_break_off(self, api, article, method):
        """The view goes on without them, but what they presented cannot be known."""
        remember(api, article, LockableModel.lock(article)["token"])
        url = reverse("article-write-anyhow", args=[article.pk])
        whole = encoded({"lock_token": WRONG}, MULTIPART)
        broken = MULTIPART.replace("BoUnDaRy", "")
        for body, content_type in [(whole, MULTIPART), (whole, broken)]:
            assert api.generic(method, url, body, content_type).status_code == 423
        assert title() == "old"
        assert api.generic(method, url, "", MULTIPART).status_code == 200


@pytest.mark.parametrize("order", ["write-first", "read-first"])
@pytest.mark.parametrize("content_type", [FORM, MULTIPART])
def test_forms_of_views_without_the_mixin_are_read_when_posted(api, article, order, content_type):
    url = reverse(f"plain-{order}", args=[article.pk])
    data = {"a": "1", "lock_token": LockableModel.lock(article)["token"]}
    body = encoded({**data, "lock_token": WRONG}, content_type)
    assert api.post(url, body, content_type=content_type).status_code == 403
    response = api.post(url, encoded(data, content_type), content_type=content_type)
    assert response.status_code == 200
    assert response.json() == data


class TestContext:
    def test_nothing_of_a_request_is_left_after_it(self, api, url, settings):
        settings.MIDDLEWARE = []
        send(api, "put", url)
        assert context.current() == context.State()

    def test_without_the_middleware_too_nothing_of_the_block_around_it_counts(
        self, api, url, article, settings
    ):
        settings.MIDDLEWARE = []
        with holding(LockableModel.lock(article)["token"]):
            assert send(api, "put", url).status_code == 423

    def test_what_was_put_in_hand_on_the_way_to_the_view_counts(self, article):
        token = LockableModel.lock(article)["token"]
        view = drf_project.ArticleViewSet.as_view({"put": "update"})
        for called, status in [(view, 423), (holding(token)(view), 200)]:
            request = APIRequestFactory().put("/", {"title": "new"}, format="json")
            with context.in_request(request):
                assert called(request, pk=article.pk).status_code == status

    def test_a_request_that_writes_nothing_costs_nothing(self, api, url, assert_statements):
        with assert_statements(1):
            assert api.get(url, headers={"X-Lock-Token": WRONG}).status_code == 200


class TestTheBrowsableAPI:
    HTML = {"Accept": "text/html"}

    def page(self, response, status=200):
        assert response.status_code == status
        assert response["Content-Type"] == PAGE
        return response.content.decode()

    @pytest.fixture(params=["stranger", "boss"], autouse=True)
    def reader(self, request, api):
        if request.param == "boss":
            api.force_login(User.objects.create_superuser("boss"))

    @pytest.mark.parametrize("view", ["article", "by-object-permission", "by-action", "read-only"])
    def test_pages_take_no_locks_and_tell_no_tokens(self, api, article, view):
        for locked in (False, True):
            token = LockableModel.lock(article)["token"] if locked else WRONG
            for url in (url_of(article, view), lock_url_of(article, view)):
                assert token not in self.page(api.get(url, headers=self.HTML))
            assert LockToken.objects.count() == locked

    def test_the_resource_leads_to_its_lock(self, api, url, lock_url):
        assert f"{lock_url}" in self.page(api.get(url, headers=self.HTML))

    def test_the_lock_has_a_form_without_fields(self, api, lock_url):
        page = self.page(api.get(lock_url, headers=self.HTML))
        assert "POST takes it" in page
        assert 'name="title"' not in page
        assert f'action="{lock_url}"' in page

    def test_only_the_answer_to_post_shows_the_token(self, api, lock_url, article):
        page = self.page(api.post(lock_url, headers=self.HTML), 201)
        token = LockToken.objects.get_for_object(article).token_str
        assert page.count(token) == 1
        assert token not in self.page(api.get(lock_url, headers=self.HTML))

    def test_a_refused_form_is_a_page(self, api, url, article, clock):
        with hold_lock(article):
            response = api.put(url, {"title": "new"}, headers=self.HTML)
        page = self.page(response, 423)
        assert "it is locked and the token of that lock was not presented" in page
        assert response["Retry-After"] == "3600"
        assert response["Cache-Control"] == "no-store"

    @pytest.mark.parametrize("status", [412, 428])
    def test_a_refused_renewal_is_a_page(self, api, lock_url, status):
        headers = {**self.HTML, **({"X-Lock-Token": WRONG} if status == 412 else {})}
        self.page(api.patch(lock_url, headers=headers), status)


@pytest.mark.django_db(transaction=True)
class TestOverTheWire:
    """A server, a socket, and a client that knows only HTTP."""

    @pytest.fixture
    def ask(self, live_server):
        def ask(method, url, body=None, **headers):
            server = http.client.HTTPConnection(urlsplit(live_server.url).netloc, timeout=30)
            headers = {name.replace("_", "-"): value for name, value in headers.items()}
            try:
                server.request(method, url, body, headers)
                response = server.getresponse()
                return response, response.read().decode()
            finally:
                server.close()

        return ask

    def test_lock_write_release(self, ask, url, lock_url):
        body, form = json.dumps({"title": "new"}), {"Content_Type": JSON}
        assert ask("PUT", url, body, **form)[0].status == 428
        response, text = ask("POST", lock_url)
        assert response.status == 201
        assert re.fullmatch(r"Second-3\d{3}", response.headers["Timeout"])
        assert response.headers["Cache-Control"] == "no-store"
        token = json.loads(text)["token"]
        refused, text = ask("PUT", url, body, **form)
        assert refused.status == 423
        assert refused.headers["Content-Type"] == PROBLEM
        assert 3000 < int(refused.headers["Retry-After"]) <= 3600
        assert json.loads(text)["type"] == "urn:django-lock-tokens:ObjectLocked"
        assert ask("PUT", url, body, X_Lock_Token=token, **form)[0].status == 200
        assert ask("DELETE", lock_url, X_Lock_Token=token)[0].status == 204
        assert ask("PUT", url, body, X_Lock_Token=token, **form)[0].status == 412
        assert title() == "new"

    def test_of_four_who_lock_at_once_one_does(self, ask, lock_url):
        start = Barrier(4)

        def take(_):
            start.wait(30)
            return ask("POST", lock_url)[0].status

        with ThreadPoolExecutor(4) as pool:
            assert sorted(pool.map(take, range(4))) == [201, 423, 423, 423]

    def test_a_multipart_put_over_a_socket(self, ask, article):
        token = LockableModel.lock(article)["token"]
        url = reverse("article-write-first", args=[article.pk])
        body = encoded({"lock_token": token}, MULTIPART)
        assert ask("PUT", url, body, Content_Type=MULTIPART)[0].status == 200
        assert title() == "new"


class TestThePackage:
    def test_does_not_need_rest_framework(self):
        """Only this module does; a process that knows of neither runs the rest."""
        code = (
            "import sys; sys.modules['rest_framework'] = None\n"
            "from django.conf import settings; settings.configure(INSTALLED_APPS="
            "['django.contrib.auth', 'django.contrib.contenttypes', 'lock_tokens'])\n"
            "import django; django.setup()\n"
            "import lock_tokens.views, lock_tokens.mixins, lock_tokens.enforcement.middleware\n"
            "import lock_tokens.contrib\n"
            "try:\n    import lock_tokens.contrib.rest_framework\n"
            "except ImportError as error:\n    print('needs', error.name)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.stdout.strip(), done.returncode) == ("needs rest_framework", 0), done.stderr


DOCS = Path(__file__).parents[2] / "docs" / "rest_framework.rst"


class TestTheDocumentation:
    @pytest.fixture
    def names(self, monkeypatch):
        """What its Python blocks define, run one after the other."""
        monkeypatch.setitem(sys.modules, "news", sys.modules["tests.news"])
        monkeypatch.setitem(sys.modules, "news.models", sys.modules["tests.news.models"])
        names = {"__name__": "docs", "INSTALLED_APPS": [], "MIDDLEWARE": []}
        text = DOCS.read_text(encoding="utf-8")
        for block in re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", text):
            exec(textwrap.dedent(block), names)  # noqa: S102
        return names

    def test_its_settings_are_the_ones(self, names):
        assert names["INSTALLED_APPS"] == ["rest_framework", "lock_tokens"]
        assert names["MIDDLEWARE"] == [MIDDLEWARE]
        assert names["REST_FRAMEWORK"] == {"EXCEPTION_HANDLER": HANDLER}

    def test_its_viewset_works(self, api, names, settings):
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["news.Article"]}
        urls = ModuleType("docs_urls")
        urls.urlpatterns = [path("", include(names["router"].urls))]
        settings.ROOT_URLCONF = urls
        api.force_authenticate(person("bob"))
        article = names["Article"].objects.create(title="old")
        lock_url, url = lock_url_of(article), f"/articles/{article.pk}/"
        assert lock_url == f"{url}lock/"
        token = api.post(lock_url).json()["token"]
        assert send(api, "patch", url).status_code == 423
        assert send(api, "patch", url, token).status_code == 200

    @pytest.mark.parametrize(("name", "status"), STATUSES)
    def test_it_has_the_status_of_each_error(self, name, status):
        assert re.search(rf"^``{name}`` +{status}$", DOCS.read_text(encoding="utf-8"), re.M)


def test_the_handler_needs_no_view():
    request = APIRequestFactory().get("/")
    response = exception_handler(LockRequired(), {"request": request, "view": None})
    assert response.status_code == 428
    assert exception_handler(RuntimeError(), {"request": request, "view": None}) is None
