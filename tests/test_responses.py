"""A refusal as HTTP says it: status, problem+json or page, headers, and what it keeps to itself."""

import re
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import User
from django.test import RequestFactory
from django.urls import reverse
from django.utils import translation
from freezegun import freeze_time

from lock_tokens import exceptions, locking, responses
from lock_tokens.exceptions import LockFacts
from lock_tokens.models import LockableModel
from lock_tokens.targets import target_of
from tests.app.models import Article, Slug

pytestmark = pytest.mark.django_db

NOON = "2026-11-22 12:00:00"
STALE = "5" * 32
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
HOSTILE = "\"'><script>alert(1)</script>&amp;"
JSON = "application/problem+json"
PAGE = "text/html; charset=utf-8"


@pytest.fixture(autouse=True)
def clock(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"]}
    with freeze_time(NOON) as clock:
        yield clock


@pytest.fixture
def article():
    return Article.objects.create(title=HOSTILE)


def write(client, article, **headers):
    return client.post(reverse("articles:write", args=[article.pk]), headers=headers)


def locked(client, article):
    LockableModel.lock(article)
    return write(client, article, Accept="application/json")


def not_locked(client, article):
    return write(client, article, Accept="application/json")


def stale(client, article):
    return write(client, article, Accept="application/json", **{"X-Lock-Token": STALE})


def not_ours(client, article):
    url = reverse("articles:unlock", args=[article.pk])
    return client.post(url, headers={"Accept": "application/json"})


@pytest.mark.parametrize(
    ("refused", "status", "kind", "title", "detail"),
    [
        (
            locked,
            423,
            "ObjectLocked",
            "Locked",
            "app.Article {pk} was not written: it is locked and the token of that lock was not "
            "presented. Locked since 2026-11-22 12:00:00+00:00 until 2026-11-22 13:00:00+00:00.",
        ),
        (
            not_locked,
            428,
            "LockRequired",
            "Lock required",
            "app.Article {pk} was not written: lock it first and present the token (header, form "
            "field, session or lock_tokens.enforcement.locked).",
        ),
        (
            stale,
            412,
            "StaleToken",
            "Stale lock token",
            "app.Article {pk} was not written: the presented token is stale, somebody may have "
            "changed the object since; reload it and lock it again.",
        ),
        (
            not_ours,
            403,
            "UnlockForbiddenError",
            "Unlock forbidden",
            "app.Article {pk} was not unlocked: the token is not the one of its lock.",
        ),
    ],
)
def test_a_refusal_as_problem_json(client, article, refused, status, kind, title, detail):
    response = refused(client, article)
    problem = response.json()
    lock = problem.pop("lock", None)
    assert response.status_code == status
    assert response["Content-Type"] == JSON
    assert response["Cache-Control"] == "no-store"
    assert "Accept" in response["Vary"]
    assert response.get("Retry-After") == ("3600" if status == 423 else None)
    assert problem == {
        "type": f"urn:django-lock-tokens:{kind}",
        "title": title,
        "status": status,
        "detail": detail.format(pk=article.pk),
        "object": {"model": "app.Article", "pk": str(article.pk)},
    }
    if status == 423:
        assert lock == {
            "since": "2026-11-22T12:00:00+00:00",
            "until": "2026-11-22T13:00:00+00:00",
            "by": None,
        }
    else:
        assert lock is None
    article.refresh_from_db()
    assert article.body == ""


@pytest.mark.parametrize(
    ("accept", "content_type", "expected"),
    [
        (BROWSER, "application/x-www-form-urlencoded", PAGE),
        (BROWSER, "application/json", PAGE),
        (None, "application/x-www-form-urlencoded", PAGE),
        (None, "application/json", JSON),
        ("*/*", "application/x-www-form-urlencoded", PAGE),
        ("*/*", "application/json", JSON),
        (" */* ", "application/json", JSON),
        ("application/json", "application/x-www-form-urlencoded", JSON),
        ("application/problem+json", "application/x-www-form-urlencoded", JSON),
        ("application/*", "application/x-www-form-urlencoded", JSON),
        ("application/json, text/html;q=0.9", "application/x-www-form-urlencoded", JSON),
        ("application/json;q=0.9, text/html", "application/x-www-form-urlencoded", PAGE),
        ("application/json, text/plain, */*", "application/x-www-form-urlencoded", JSON),
        ("text/html;q=0, application/json", "application/x-www-form-urlencoded", JSON),
        ("text/*", "application/json", PAGE),
        ("image/png", "application/json", PAGE),
        ("", "application/json", PAGE),
        ("nonsense", "application/json", PAGE),
        ("text/html;q=nonsense", "application/json", PAGE),
        (";;,,/;q=\x00é", "application/json", PAGE),
    ],
)
def test_the_client_s_preference_decides_between_json_and_a_page(
    client, article, accept, content_type, expected
):
    response = client.post(
        reverse("articles:write", args=[article.pk]),
        b"{}",
        content_type,
        headers={} if accept is None else {"Accept": accept},
    )
    assert response.status_code == 428
    assert response["Content-Type"] == expected
    assert "Accept" in response["Vary"]


@pytest.mark.parametrize(
    ("passed", "seconds"), [(0, "3600"), (0.5, "3600"), (1, "3599"), (3599, "1"), (3599.9, "1")]
)
def test_retry_after_is_when_the_lock_can_be_taken_over(client, article, clock, passed, seconds):
    LockableModel.lock(article)
    clock.tick(passed)
    assert write(client, article)["Retry-After"] == seconds
    clock.tick(int(seconds))
    assert write(client, article).status_code == 428


def test_retry_after_is_never_in_the_past(clock):
    facts = LockFacts(locking.now(), locking.now())
    clock.tick(100)
    assert responses.retry_after(facts) == 1


def page_of(response):
    assert response["Content-Type"] == PAGE
    return response.content.decode()


def test_the_page_says_what_happened_and_that_nothing_was_written(client, article):
    LockableModel.lock(article)
    response = write(client, article, Accept=BROWSER)
    page = page_of(response)
    assert response.status_code == 423
    assert response["Retry-After"] == "3600"
    assert response["Cache-Control"] == "no-store"
    assert "<title>Locked</title>" in page
    assert "<h1>Locked</h1>" in page
    assert "until Nov. 22, 2026, 1 p.m." in page
    assert "Nothing was written." in page


@pytest.mark.parametrize("accept", [BROWSER, "application/json"])
@pytest.mark.parametrize(
    ("show", "logged_in", "told"),
    [
        (True, False, True),
        (True, True, True),
        ("authenticated", False, False),
        ("authenticated", True, True),
        (False, True, False),
    ],
)
def test_show_holder_decides_who_reads_the_holder_s_name(
    client, article, settings, accept, show, logged_in, told
):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"], "SHOW_HOLDER": show}
    LockableModel.lock(article, by=User.objects.create_user("alice"))
    if logged_in:
        client.force_login(User.objects.create_user("bob"))
    response = write(client, article, Accept=accept)
    assert response.status_code == 423
    assert ("alice" in response.content.decode()) is told


def test_the_page_escapes_what_users_chose(client, settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"], "SHOW_HOLDER": True}
    article = Article.objects.create(title="a")
    LockableModel.lock(article, by=User.objects.create_user(HOSTILE))
    page = page_of(write(client, article, Accept=BROWSER))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;" in page
    assert "<script" not in page


def test_the_page_escapes_a_key(rf):
    target = target_of(Slug.objects.create(slug=HOSTILE))
    error = exceptions.AlreadyLockedError(model_label=target.label, pk=target.pk)
    page = page_of(responses.refusal(rf.get("/", headers={"Accept": BROWSER}), error))
    assert "Slug &quot;&#x27;&gt;&lt;script&gt;alert(1)" in page
    assert "<script" not in page


def test_the_page_works_under_a_strict_content_security_policy(client, article):
    page = page_of(write(client, article, Accept=BROWSER))
    assert not re.search(r"<script|<style|\sstyle=|\son\w+=|javascript:|https?://", page)


@pytest.mark.parametrize("accept", [BROWSER, "application/json"])
@pytest.mark.parametrize("header", [STALE, "", f"{STALE},{'6' * 32}"])
@pytest.mark.parametrize("is_locked", [True, False])
def test_no_token_is_in_a_refusal_or_its_log(client, article, caplog, accept, header, is_locked):
    token = LockableModel.lock(article)["token"] if is_locked else STALE
    response = write(client, article, Accept=accept, **{"X-Lock-Token": header})
    assert response.status_code >= 400
    said = response.content.decode() + str(response.headers) + caplog.text
    assert f"app.Article {article.pk}" in said
    for secret in [token, STALE, "6" * 32]:
        assert secret not in said


@pytest.mark.parametrize(("language", "direction"), [("de", "ltr"), ("ar", "rtl"), (None, "ltr")])
@pytest.mark.parametrize("accept", [BROWSER, "application/json"])
def test_a_refusal_in_another_language(rf, language, direction, accept):
    request = rf.post("/", headers={"Accept": accept})
    facts = LockFacts(locking.now(), locking.now(), _holder="alice")
    error = exceptions.ObjectLocked(model_label="app.Article", pk=1, lock=facts)
    with translation.override(language):
        response = responses.refusal(request, error)
    assert response.status_code == 423
    assert b"rticle 1" in response.content
    if accept == BROWSER:
        shown = language or "en"
        assert f'<html lang="{shown}" dir="{direction}">' in page_of(response)


def test_a_request_without_user_or_content_type_is_anonymous():
    """As one that was made by hand."""
    request = SimpleNamespace(headers={}, content_type=None)
    assert responses.prefers_json(request) is False
    facts = LockFacts(locking.now(), locking.now(), _holder="alice")
    error = exceptions.ObjectLocked(model_label="app.Article", pk=1, lock=facts)
    response = responses.refusal(RequestFactory().get("/"), error)
    assert "alice" not in page_of(response)


def test_without_the_middleware_a_refusal_is_still_forbidden(client, article, settings):
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "LockToken" not in name]
    assert write(client, article).status_code == 403
