"""UpdateView and DeleteView with LocksObjectMixin, as two browsers use them."""

import re

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from freezegun import freeze_time

from lock_tokens.models import LockableModel, LockToken
from lock_tokens.sessions import get_session_key
from tests.app.models import Article

pytestmark = pytest.mark.django_db

NOON = "2026-11-22 12:00:00"
VIEWS = ["edit", "delete"]
REQUIRED = "was not saved, because you do not have it locked. Open it again to edit it."
STALE = (
    "was not saved, because your lock on it has ended and somebody may have changed it since. "
    "Copy what you typed and open it again."
)


@pytest.fixture(autouse=True, params=[["app.Article"], []], ids=["enforced", "plain"])
def enforced(request, settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": request.param}


@pytest.fixture(autouse=True, params=[False, True], ids=["", "atomic requests"])
def atomic_requests(request, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", request.param)


@pytest.fixture(autouse=True)
def clock():
    with freeze_time(NOON) as clock:
        yield clock


@pytest.fixture
def article():
    return Article.objects.create(title="old")


class Browser:
    """A user's browser on one article; each page that it opens is a tab with a form."""

    def __init__(self, name, article):
        self.client = Client()
        self.client.force_login(User.objects.create_user(name))
        self.article = article

    def url(self, view):
        return reverse(f"articles:{view}", args=[self.article.pk])

    def open(self, view="edit"):
        return self.client.get(self.url(view), headers={"Accept": "text/html"})

    def send(self, page=None, view="edit", headers=None, **typed):
        data = {"title": "new", "body": "typed", **typed}
        if page is not None:
            data["lock_token"] = field(page)
        return self.client.post(self.url(view), data, headers=headers)

    def token(self):
        return self.client.session.get(get_session_key(self.article))


@pytest.fixture
def alice(article):
    return Browser("alice", article)


@pytest.fixture
def bob(article):
    return Browser("bob", article)


def field(page):
    """Return the token in the form's hidden field."""
    found = re.findall(r'<input type="hidden" name="lock_token" value="([^"]*)">', text(page))
    assert len(found) == 1
    return found[0]


def text(page):
    return page.content.decode()


def assert_unchanged(article, body=""):
    assert list(Article.objects.values_list("pk", "title", "body")) == [(article.pk, "old", body)]


def assert_refused(response, article, status, message, body=""):
    """Assert that nothing was written and that the form is there again with what was typed."""
    assert response.status_code == status
    assert response["Cache-Control"] == "no-store"
    assert ("Retry-After" in response) is (status == 423)
    assert_unchanged(article, body)
    assert f"Article {article.pk} {message}" in text(response)
    assert 'value="new"' in text(response)
    assert "typed</textarea>" in text(response)


# Opening


@pytest.mark.parametrize("view", VIEWS)
def test_opening_the_form_takes_the_lock(alice, article, view):
    response = alice.open(view)
    lock = LockToken.objects.get_for_object(article)
    assert response.status_code == 200
    assert field(response) == alice.token() == lock.token_str
    assert lock.locked_by.username == "alice"
    assert lock.timeout == 3600


def test_the_view_may_have_a_timeout_of_its_own(alice):
    alice.open("edit-short")
    assert LockToken.objects.get().timeout == 60


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_a_look_from_outside_takes_no_lock(alice, article, view, method):
    assert alice.client.generic(method, alice.url(view)).status_code == 200
    assert not LockableModel.is_locked(article)
    assert alice.token() is None


@pytest.mark.parametrize("view", VIEWS)
def test_a_second_user_is_told_who_has_the_article_and_until_when(alice, bob, view):
    page = alice.open(view)
    response = bob.open(view)
    assert response.status_code == 423
    assert response["Retry-After"] == "3600"
    assert "until Nov. 22, 2026, 1 p.m. by alice." in text(response)
    assert field(page) not in text(response)
    assert bob.token() is None


def test_a_second_tab_of_the_same_session_renews_the_lock(alice, clock):
    first = alice.open()
    clock.tick(600)
    second = alice.open()
    assert second.status_code == 200
    assert field(second) == field(first)
    assert LockToken.objects.get().locked_at == timezone.now()
    assert alice.send(first).status_code == 302


def test_opening_after_somebody_took_over_and_left_takes_a_fresh_lock(alice, bob, clock):
    old = alice.open()
    clock.tick(3600)
    bob.send(bob.open(), title="bob's")
    fresh = alice.open()
    assert fresh.status_code == 200
    assert field(fresh) not in ("", field(old))
    assert "bob&#x27;s" in text(fresh)


def test_an_article_that_does_not_exist_is_not_found(alice):
    alice.article = Article(pk=alice.article.pk + 1)
    assert alice.open().status_code == alice.send().status_code == 404


# Sending


def test_a_save_writes_and_releases_the_lock(alice, article):
    response = alice.send(alice.open())
    assert response.status_code == 302
    article.refresh_from_db()
    assert (article.title, article.body) == ("new", "typed")
    assert not LockToken.objects.exists()
    assert alice.token() is None


def test_a_delete_removes_the_article_and_its_lock(alice):
    response = alice.send(alice.open("delete"), "delete")
    assert response.status_code == 302
    assert not Article.objects.exists()
    assert not LockToken.objects.exists()
    assert alice.token() is None


@pytest.mark.parametrize("view", VIEWS)
def test_a_form_without_the_field_is_judged_by_the_session(alice, view):
    alice.open(view)
    assert alice.send(view=view).status_code == 302


@pytest.mark.parametrize("view", VIEWS)
def test_the_header_presents_a_token_too(alice, article, view):
    token = LockableModel.lock(article)["token"]
    assert alice.send(view=view, headers={"X-Lock-Token": "wrong"}).status_code == 423
    assert alice.send(view=view, headers={"X-Lock-Token": token}).status_code == 302
    assert not LockToken.objects.exists()


@pytest.mark.parametrize("view", VIEWS)
def test_an_expired_lock_that_nobody_took_over_is_still_good(alice, clock, view):
    page = alice.open(view)
    clock.tick(100_000)
    assert alice.send(page, view).status_code == 302


def test_a_validation_error_keeps_the_lock_and_its_token(alice, article):
    page = alice.open()
    again = alice.send(page, title="")
    assert again.status_code == 200
    assert field(again) == field(page) == alice.token()
    assert LockableModel.is_locked(article)
    assert_unchanged(article)
    assert alice.send(again).status_code == 302


def test_a_save_that_fails_writes_nothing_and_keeps_the_lock(alice, article):
    page = alice.open("edit-failing")
    with pytest.raises(RuntimeError, match="after the save"):
        alice.send(page, "edit-failing")
    assert_unchanged(article)
    assert LockableModel.check_lock(article, field(page)) is True
    assert alice.send(page).status_code == 302


# Refusing


def test_a_save_without_a_lock_is_refused(alice, article):
    assert_refused(alice.send(), article, 428, REQUIRED)


def test_a_form_that_was_made_without_a_lock_is_refused(alice, article):
    page = alice.send()
    assert field(page) == ""
    alice.open()
    # The session has the lock by now, but the form was not made under it.
    response = alice.send(page)
    assert response.status_code == 423
    assert field(response) == ""
    assert_unchanged(article)


def test_a_save_of_an_article_that_somebody_else_has_is_refused(alice, bob, article):
    alice.open()
    response = bob.send()
    assert_refused(
        response,
        article,
        423,
        "was not saved, because it is locked. Locked since Nov. 22, 2026, noon "
        "until Nov. 22, 2026, 1 p.m. by alice.",
    )
    assert response["Retry-After"] == "3600"
    assert alice.token() not in text(response)


def test_the_first_form_of_one_who_lost_the_lock_stays_refused(alice, bob, article, clock):
    """Alice goes to lunch, Bob edits, and Alice sends what she typed into the old article."""
    old = alice.open()
    clock.tick(3600)
    assert bob.send(bob.open(), title="old", body="bob's").status_code == 302

    refused = alice.send(old)
    assert_refused(refused, article, 412, STALE, body="bob's")
    assert field(refused) == field(old)

    # A second tab takes a fresh lock. It does not speak for the first one.
    second = alice.open()
    for page in [old, refused]:
        response = alice.send(page)
        assert response.status_code == 423
        assert field(response) == field(old)
        assert_unchanged(article, "bob's")
    assert alice.send(second).status_code == 302
    # Now there is no lock at all, and the old form is as stale as ever.
    assert alice.send(old).status_code == 412


def test_without_the_mixin_the_first_form_overwrites_what_somebody_else_saved(
    alice, bob, article, settings, clock
):
    """The control of the test above: the same story, and Bob's text is lost."""
    settings.LOCK_TOKENS = {}
    view = "edit-unprotected"
    old = alice.open(view)
    clock.tick(3600)
    assert bob.send(bob.open(view), view, body="bob's").status_code == 302
    assert alice.send(old, view).status_code == 302
    article.refresh_from_db()
    assert article.body == "typed"


@pytest.mark.parametrize(("locked", "status"), [(False, 428), (True, 423)])
def test_a_delete_without_the_token_is_refused(alice, bob, article, locked, status):
    if locked:
        alice.open()
    response = bob.send(view="delete")
    assert response.status_code == status
    assert_unchanged(article)
    assert f"Article {article.pk} was not saved" in text(response)


def test_a_delete_with_a_stale_token_is_refused(alice, bob, article, clock):
    page = alice.open("delete")
    clock.tick(3600)
    assert bob.send(bob.open(), title="old", body="bob's").status_code == 302
    assert alice.send(page, "delete").status_code == 412
    alice.open("delete")
    assert alice.send(page, "delete").status_code == 423
    assert_unchanged(article, "bob's")


def test_more_tokens_than_a_hundred_are_a_bad_request(alice, article):
    alice.open()
    response = alice.send(headers={"X-Lock-Token": ",".join("a" * 101)})
    assert response.status_code == 400
    assert_unchanged(article)


def test_a_refusal_leaves_the_holder_s_lock_and_session_alone(alice, bob):
    page = alice.open()
    bob.send()
    bob.open()
    assert alice.token() == field(page)
    assert alice.send(page).status_code == 302


def test_what_was_typed_is_escaped(alice, article):
    response = alice.send(title='"><script>')
    assert response.status_code == 428
    assert "&quot;&gt;&lt;script&gt;" in text(response)
    assert "<script" not in text(response)
