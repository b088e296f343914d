"""What a request presents is judged in its writes, and a refusal becomes its response."""

import asyncio
import re

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import reverse

from lock_tokens.enforcement import context, locked
from lock_tokens.enforcement.middleware import LockTokenMiddleware
from lock_tokens.exceptions import ObjectLocked
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.sessions import get_session_key, lock_for_session
from lock_tokens.testing import hold_lock
from tests.app.models import Article

pytestmark = pytest.mark.django_db

OK, LOCKED, LOCK_REQUIRED, STALE = 200, 423, 428, 412


class SyncSite:
    """A client of the site as WSGI serves it."""

    def __init__(self):
        self.client = Client()

    def post(self, *args, **kwargs):
        return self.client.post(*args, **kwargs)


class AsyncSite:
    """A client of the site as ASGI serves it."""

    def __init__(self):
        self.client = AsyncClient()

    def post(self, *args, **kwargs):
        return async_to_sync(self.client.post)(*args, **kwargs)


@pytest.fixture(params=[SyncSite, AsyncSite])
def site(request):
    return request.param()


@pytest.fixture(autouse=True)
def enforced(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"]}


@pytest.fixture
def article():
    return Article.objects.create(title="old")


@pytest.fixture
def other():
    return Article.objects.create(title="other")


@pytest.fixture(params=["save", "asave"])
def url(request, article):
    return reverse(f"enforced:{request.param}", args=[article.pk])


def remember(site, obj, token):
    """Put ``token`` into the session of ``site`` as ``lock_for_session`` does."""
    session = site.client.session
    session[get_session_key(obj)] = token
    session.save()
    site.client.cookies["sessionid"] = session.session_key


def stale_token_of(obj):
    token = LockableModel.lock(obj)["token"]
    LockableModel.unlock(obj, token)
    return token


def title():
    return Article.objects.order_by("pk").first().title


class TestPresenting:
    def test_nothing_is_refused_with_428(self, site, url):
        assert site.post(url).status_code == LOCK_REQUIRED
        assert title() == "old"

    def test_nothing_is_refused_with_423_while_somebody_has_the_lock(self, site, url, article):
        with hold_lock(article):
            assert site.post(url).status_code == LOCKED
        assert title() == "old"

    def test_the_token_in_the_header(self, site, url, article):
        token = LockableModel.lock(article)["token"]
        assert site.post(url, headers={"X-Lock-Token": token}).status_code == OK
        assert title() == "new"

    def test_one_of_several_tokens_in_the_header(self, site, url, article, other):
        tokens = LockableModel.lock(other)["token"], LockableModel.lock(article)["token"]
        assert site.post(url, headers={"X-Lock-Token": " , ".join(tokens)}).status_code == OK

    def test_the_token_in_the_form(self, site, url, article):
        token = LockableModel.lock(article)["token"]
        assert site.post(url, {"lock_token": token}).status_code == OK
        assert title() == "new"

    def test_the_token_in_a_form_without_files(self, site, url, article):
        body = f"lock_token={LockableModel.lock(article)['token']}"
        form = "application/x-www-form-urlencoded"
        assert site.post(url, body, content_type=form).status_code == OK

    def test_the_token_in_the_session(self, site, url, article):
        remember(site, article, LockableModel.lock(article)["token"])
        assert site.post(url).status_code == OK
        assert title() == "new"

    def test_a_stale_token_is_refused_with_412_wherever_it_is(self, site, url, article):
        token = stale_token_of(article)
        assert site.post(url, {"lock_token": token}).status_code == STALE
        assert site.post(url, headers={"X-Lock-Token": token}).status_code == STALE
        remember(site, article, token)
        assert site.post(url).status_code == STALE
        assert title() == "old"

    def test_names_of_header_and_field_are_settings(self, site, url, article, settings):
        settings.LOCK_TOKENS = {
            **settings.LOCK_TOKENS,
            "TOKEN_HEADER": "If-Lock",
            "TOKEN_FIELD": "lock",
        }
        token = LockableModel.lock(article)["token"]
        assert site.post(url, {"lock_token": token}).status_code == LOCKED
        assert site.post(url, headers={"X-Lock-Token": token}).status_code == LOCKED
        assert site.post(url, {"lock": token}).status_code == OK
        assert site.post(url, headers={"If-Lock": token}).status_code == OK

    def test_what_the_view_holds_adds_to_what_the_request_brings(self, site, article, other):
        url = reverse("enforced:holding", args=[article.pk, LockableModel.lock(article)["token"]])
        token = LockableModel.lock(other)["token"]
        assert site.post(url, headers={"X-Lock-Token": token}).status_code == OK


class TestExplicitBeatsImplicit:
    """A form that was opened long ago is refused although its session has a newer lock."""

    @pytest.fixture(autouse=True)
    def newer_lock(self, site, article):
        remember(site, article, LockableModel.lock(article)["token"])

    def test_the_session_would_be_allowed(self, site, url):
        assert site.post(url).status_code == OK

    @pytest.mark.parametrize("token", ["0" * 32, "", "garbage"])
    def test_an_old_form_is_refused(self, site, url, token):
        assert site.post(url, {"lock_token": token}).status_code == LOCKED
        assert title() == "old"

    @pytest.mark.parametrize("token", ["0" * 32, "", ",,", "garbage"])
    def test_an_old_header_is_refused(self, site, url, token):
        assert site.post(url, headers={"X-Lock-Token": token}).status_code == LOCKED
        assert title() == "old"

    def test_a_form_whose_stream_the_view_has_read_is_refused(self, site, article):
        """Its tokens cannot be known any more; the session must not speak for it."""
        url = reverse("enforced:body", args=[article.pk])
        body, form = "lock_token=0", "application/x-www-form-urlencoded"
        response = site.post(url, body, content_type=form)
        assert response.status_code == LOCKED
        assert title() == "old"

    def test_a_body_that_is_no_form_leaves_the_session_to_speak(self, site, url):
        response = site.post(url, '{"lock_token": "0"}', content_type="application/json")
        assert response.status_code == OK


class TestTheLunchCase:
    """Alice's lock expires, Bob takes over, edits and leaves; Alice saves what she had."""

    def test_alice_is_refused_in_the_first_tab_even_after_opening_a_second(
        self, site, url, article
    ):
        alices_form = LockableModel.lock(article)["token"]
        LockToken.objects.update(timeout=1, locked_at="2000-01-01T00:00:00Z")
        with locked(article):
            Article.objects.filter(pk=article.pk).update(title="Bob's")
        assert site.post(url, {"lock_token": alices_form}).status_code == STALE
        remember(site, article, LockableModel.lock(article)["token"])
        assert site.post(url, {"lock_token": alices_form}).status_code == LOCKED
        assert title() == "Bob's"


class TestLimits:
    def test_101_tokens_are_a_bad_request(self, site, url):
        response = site.post(url, headers={"X-Lock-Token": ",".join(["0" * 32] * 101)})
        assert response.status_code == 400
        assert title() == "old"

    def test_100_tokens_are_read(self, site, url, article):
        tokens = ["0" * 32] * 99 + [LockableModel.lock(article)["token"]]
        assert site.post(url, headers={"X-Lock-Token": ",".join(tokens)}).status_code == OK

    @pytest.mark.parametrize("token", ["x" * 100_000, "ü" * 32, "'; DROP TABLE--", "%00"])
    def test_garbage_is_refused(self, site, url, token):
        assert site.post(url, {"lock_token": token}).status_code == STALE

    def test_a_request_that_writes_nothing_enforced_reads_nothing(self, assert_statements, client):
        url = reverse("enforced:read")
        with assert_statements(0):
            response = client.post(url, headers={"X-Lock-Token": ",".join(["0"] * 500)})
        assert response.content == b"True"

    def test_a_guarded_save_costs_one_statement(self, client, article, assert_statements):
        token = LockableModel.lock(article)["token"]
        url = reverse("enforced:save", args=[article.pk])
        with assert_statements(3):
            client.post(url, headers={"X-Lock-Token": token})


class TestOtherPlaces:
    def test_a_write_while_the_template_is_rendered_is_in_the_request(self, site, article):
        url = reverse("enforced:rendering", args=[article.pk])
        token = LockableModel.lock(article)["token"]
        assert site.post(url).status_code == LOCKED
        assert site.post(url, {"lock_token": token}).status_code == OK

    def test_a_write_while_streaming_is_outside_the_request_and_refused(self, client, article):
        token = LockableModel.lock(article)["token"]
        response = client.post(
            reverse("enforced:streaming", args=[article.pk]), {"lock_token": token}
        )
        with pytest.raises(ObjectLocked):
            list(response.streaming_content)
        assert title() == "old"

    def test_a_request_sees_nothing_of_the_block_it_is_served_in(self, client, article):
        with locked(article):
            url = reverse("enforced:save", args=[article.pk])
            assert client.post(url).status_code == LOCKED

    def test_nothing_of_a_request_is_left_after_it(self, site, url, article):
        site.post(url, {"lock_token": LockableModel.lock(article)["token"]})
        assert context.current() == context.State()

    def test_atomic_requests(self, client, article, monkeypatch):
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
        url = reverse("enforced:save", args=[article.pk])
        token = LockableModel.lock(article)["token"]
        assert client.post(url).status_code == LOCKED
        assert title() == "old"
        assert client.post(url, {"lock_token": token}).status_code == OK
        assert title() == "new"


class TestAnswers:
    @pytest.mark.parametrize(
        ("name", "status"),
        [
            ("ObjectLocked", 423),
            ("AlreadyLockedError", 423),
            ("LockRequired", 428),
            ("StaleToken", 412),
            ("InvalidToken", 412),
            ("UnlockForbiddenError", 403),
        ],
    )
    def test_each_error_has_its_status(self, site, name, status):
        response = site.post(
            reverse("enforced:fail", args=[name]), headers={"accept": "application/json"}
        )
        assert response.status_code == status
        assert response["Content-Type"] == "application/problem+json"
        assert response["Cache-Control"] == "no-store"
        assert response.json()["status"] == status

    def test_a_423_says_who_until_when_and_when_to_come_back(self, client, article):
        alice = get_user_model().objects.create(username="alice")
        client.force_login(alice)
        url = reverse("enforced:save", args=[article.pk])
        with hold_lock(article, by=alice):
            response = client.post(url, headers={"accept": "application/json"})
        assert response.json()["lock"]["by"] == "alice"
        assert 3590 < int(response["Retry-After"]) <= 3600

    def test_without_the_middleware_a_refusal_is_still_a_403(self, client, article, settings):
        settings.MIDDLEWARE = [path for path in settings.MIDDLEWARE if "lock_tokens" not in path]
        url = reverse("enforced:save", args=[article.pk])
        assert client.post(url).status_code == 403
        assert title() == "old"

    def test_no_token_is_logged_or_answered(self, client, url, article, caplog):
        token, own = LockableModel.lock(article)["token"], "f" * 32
        response = client.post(url, {"lock_token": own})
        assert response.status_code == LOCKED
        refused = next(message for message in caplog.messages if "ObjectLocked" in message)
        line = rf"ObjectLocked: app\.Article {article.pk}, by \S+/enforcement_views\.py:\d+"
        assert re.fullmatch(rf"{line}, request {url}", refused)
        said = response.content.decode() + str(response.headers) + caplog.text
        assert token not in said
        assert own not in said


class TestStarting:
    @pytest.mark.parametrize("handler", [WSGIHandler, ASGIHandler])
    def test_with_wrong_settings_no_server_starts(self, handler, settings):
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Artcle"]}
        with pytest.raises(ImproperlyConfigured) as caught:
            handler()
        assert str(caught.value) == (
            "LOCK_TOKENS['ENFORCED_MODELS'] names 'app.Artcle', which is no installed model."
        )

    def test_sessions_are_not_needed_for_tokens_in_the_header(self, client, article, settings):
        settings.MIDDLEWARE = ["lock_tokens.enforcement.middleware.LockTokenMiddleware"]
        url = reverse("enforced:save", args=[article.pk])
        assert client.post(url).status_code == LOCK_REQUIRED
        token = LockableModel.lock(article)["token"]
        assert client.post(url, headers={"X-Lock-Token": token}).status_code == OK

    def test_the_session_key_is_the_one_that_lock_for_session_uses(self, site, url, article):
        session = site.client.session
        lock_for_session(article, session)
        session.save()
        site.client.cookies["sessionid"] = session.session_key
        assert site.post(url).status_code == OK


@pytest.mark.django_db(transaction=True)
def test_a_task_that_outlives_its_request_has_no_tokens_of_it(article, rf):
    token = LockableModel.lock(article)["token"]
    outcome = []

    async def save_later(over):
        await over.wait()
        article.title = "new"
        try:
            await article.asave()
        except ObjectLocked:
            outcome.append("refused")
        else:
            outcome.append("saved")

    async def serve(*, wait):
        over = asyncio.Event()
        tasks = []

        async def view(request):
            tasks.append(asyncio.create_task(save_later(over)))
            if wait:
                over.set()
                await tasks[0]
            return HttpResponse()

        await LockTokenMiddleware(view)(rf.get("/", headers={"X-Lock-Token": token}))
        over.set()
        await tasks[0]

    async_to_sync(serve)(wait=True)
    async_to_sync(serve)(wait=False)
    assert outcome == ["saved", "refused"]
