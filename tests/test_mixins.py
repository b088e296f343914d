"""UpdateView and DeleteView with LocksObjectMixin, as two browsers use them."""

import re
from datetime import timedelta
from html import unescape

import pytest
from django.conf import settings as settings_now
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test import Client, modify_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from freezegun import freeze_time

from lock_tokens.enforcement import locked
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.sessions import get_session_key
from tests.app.models import Article, Correction, Story

pytestmark = pytest.mark.django_db

NOON = "2026-11-22 12:00:00"
VIEWS = ["edit", "delete"]
OLD = (
    "Nothing was saved: this form is older than your lock, and somebody may have changed this "
    "since. What you typed is still here."
)
HERS = (
    "Nothing was saved. alice is editing this: since Nov. 22, 2026, noon, until Nov. 22, 2026, "
    "1 p.m. unless the lock is renewed. What you typed is still here."
)
LOOKED = "I have looked: save mine"


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

    def __init__(self, name, article, *permissions):
        self.client = Client()
        self.user, _created = User.objects.get_or_create(username=name)
        codenames = [permission.rpartition(".")[2] for permission in permissions]
        self.user.user_permissions.add(*Permission.objects.filter(codename__in=codenames))
        self.client.force_login(self.user)
        self.article = article

    def url(self, view):
        return reverse(f"articles:{view}", args=[self.article.pk])

    def open(self, view="edit"):
        return self.client.get(self.url(view), headers={"Accept": "text/html"})

    def send(self, page=None, view="edit", headers=None, button=None, **typed):
        data = {"title": "new", "body": "typed", **typed}
        if page is not None:
            data["lock_token"] = [field(page), *([button] if button else ())]
        return self.client.post(self.url(view), data, headers=headers)

    def ask(self, page, action="renew", view="edit", method="post", **more):
        """Ask as the script of ``page`` does."""
        script = script_of(page)
        headers = {"Accept": "application/json"}
        if method == "get":
            return self.client.get(script["url"], headers=headers)
        headers[script["header"]] = script["token"]
        more = {"renewed": script["renewed"], **more}
        return self.client.post(script["url"], {"action": action, **more}, headers=headers)

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


def said(page):
    """Return the words of the page, without its tags."""
    return " ".join(re.sub("<[^>]*>", "", text(page)).split())


def script_of(page):
    """Return the data attributes of the script that keeps the page."""
    [tag] = re.findall(r"<script [^>]*lock_tokens/page.js[^>]*>", text(page))
    return {name: unescape(value) for name, value in re.findall(r'data-(\w+)="([^"]*)"', tag)}


def button_of(page):
    """Return the token of the button that saves after looking, if the page has it."""
    found = re.findall(r'<button [^>]*name="lock_token" value="([^"]*)">([^<]*)<', text(page))
    assert len(found) <= 1
    return found[0][0] if found else None


def compared(page):
    """Return the rows of mine and theirs."""
    rows = re.findall('<tr><th scope="row">(.*?)</th>(.*?)</tr>', text(page))
    return [(label, *re.findall("<td[^>]*>(.*?)</td>", cells)) for label, cells in rows]


def assert_unchanged(article, body=""):
    assert list(Article.objects.values_list("pk", "title", "body")) == [(article.pk, "old", body)]


def assert_refused(response, article, status, message, body=""):
    """Assert that nothing was written and that the form is there again with what was typed."""
    assert response.status_code == status
    assert response["Cache-Control"] == "no-store"
    assert ("Retry-After" in response) is (status == 423)
    assert_unchanged(article, body)
    assert message in said(response)
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
    told = "alice is editing this: since Nov. 22, 2026, noon, until Nov. 22, 2026, 1 p.m. unless"
    assert told in said(response)
    assert "<form" not in text(response)
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
    assert_refused(alice.send(), article, 428, OLD)


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
    assert_refused(response, article, 423, HERS)
    assert response["Retry-After"] == "3600"
    assert alice.token() not in text(response)


def test_the_first_form_of_one_who_lost_the_lock_stays_refused(alice, bob, article, clock):
    """Alice goes to lunch, Bob edits, and Alice sends what she typed into the old article."""
    old = alice.open()
    clock.tick(3600)
    assert bob.send(bob.open(), title="old", body="bob's").status_code == 302

    refused = alice.send(old)
    assert_refused(refused, article, 412, OLD, body="bob's")
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
    assert "Nothing was saved" in said(response)


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
    assert "<script>" not in text(response)


# Saving after looking


@pytest.fixture
def refused(alice, bob, clock):
    """Alice's form, refused: her lock has ended, and Bob has saved since."""
    old = alice.open()
    clock.tick(3600)
    assert bob.send(bob.open(), title="old", body="bob's").status_code == 302
    return alice.send(old)


def test_a_refused_form_shows_what_was_typed_beside_what_is_stored(refused):
    assert compared(refused) == [("Title", "new", "old"), ("Body", "typed", "bob&#x27;s")]


def test_whoever_has_looked_can_save(alice, article, refused):
    response = alice.send(refused, button=button_of(refused), body="both")
    assert response.status_code == 302
    article.refresh_from_db()
    assert (article.title, article.body) == ("new", "both")
    assert not LockToken.objects.exists()
    assert alice.token() is None


def test_only_the_button_saves_what_was_refused(alice, article, refused):
    """The key Enter and the button Save send the form without the token of the new lock."""
    assert button_of(refused) == alice.token() == LockToken.objects.get().token_str
    again = alice.send(refused)
    assert_refused(again, article, 423, OLD, body="bob's")
    assert button_of(again) == button_of(refused)
    first = re.findall("<button[^>]*>", text(refused))[0]
    assert "name=" not in first


def test_a_form_without_a_token_is_shown_again_without_the_new_one(alice, article):
    refused = alice.send()
    assert (field(refused), button_of(refused)) == ("", alice.token())
    assert_refused(alice.send(refused), article, 423, OLD)
    assert alice.send(refused, button=button_of(refused)).status_code == 302


def test_what_was_looked_at_is_not_saved_over_what_changed_again(
    alice, bob, article, clock, refused
):
    clock.tick(3600)
    assert bob.send(bob.open(), title="old", body="later").status_code == 302
    again = alice.send(refused, button=button_of(refused))
    assert_refused(again, article, 412, OLD, body="later")
    assert compared(again) == [("Title", "new", "old"), ("Body", "typed", "later")]
    assert field(again) == ""
    assert alice.send(again, button=button_of(again)).status_code == 302


def test_a_form_that_was_looked_at_and_has_an_error_keeps_its_new_token(alice, refused):
    token = button_of(refused)
    again = alice.send(refused, button=token, title="")
    assert again.status_code == 200
    assert (field(again), button_of(again)) == (token, None)
    assert alice.send(again).status_code == 302


def test_what_is_shown_beside_the_typed_text_is_read_after_the_new_lock_was_taken(alice, clock):
    old = alice.open()
    LockToken.objects.all().delete()
    with CaptureQueriesContext(connection) as captured:
        alice.send(old)
    statements = [query["sql"] for query in captured]
    taken = [i for i, sql in enumerate(statements) if re.search("INSERT.*locktoken", sql, re.S)]
    read = [i for i, sql in enumerate(statements) if re.search("FROM .app_article", sql)]
    assert taken[0] < read[-1]


def test_the_title_of_an_article_that_is_as_it_was_typed_is_not_compared(alice, article):
    response = alice.send(title="old")
    assert compared(response) == [("Body", "typed", "\u2013")]


def test_a_form_that_is_what_is_stored_says_so(alice):
    response = alice.send(title="old", body="")
    # The body is required, and so is not what may be stored: that it is empty is no difference.
    assert compared(response) == []
    assert "You have the lock now, and what is stored is what you typed." in said(response)


def test_who_was_evicted_keeps_the_text_and_has_to_wait(alice, bob, article, clock):
    old = bob.open()
    clock.tick(3600)
    alice.open()
    clock.move_to(NOON)
    LockToken.objects.update(locked_at=timezone.now(), created=timezone.now())
    response = bob.send(old)
    assert_refused(response, article, 423, HERS)
    assert (field(response), button_of(response)) == (field(old), None)
    assert "Take it over" not in said(response)
    assert script_of(response)["state"] == "locked"
    assert script_of(response)["typed"] == "true"
    assert "token" not in script_of(response)


def test_a_delete_that_was_refused_can_be_confirmed(alice, bob, clock):
    old = alice.open("delete")
    clock.tick(3600)
    assert bob.send(bob.open()).status_code == 302
    refused = alice.send(old, "delete")
    assert refused.status_code == 412
    assert "Look at what is stored, and go on if you still want to." in said(refused)
    assert alice.send(refused, "delete", button=button_of(refused)).status_code == 302
    assert not Article.objects.exists()


# HTTP's own DELETE


@pytest.mark.parametrize("view", ["delete", "erase"])
def test_the_method_delete_needs_the_token_too(alice, bob, article, view):
    assert bob.client.delete(bob.url(view)).status_code == 428
    token = LockableModel.lock(article)["token"]
    assert bob.client.delete(bob.url(view)).status_code == 423
    assert_unchanged(article)
    response = bob.client.delete(bob.url(view), headers={"X-Lock-Token": token})
    assert response.status_code == 302
    assert not Article.objects.exists()
    assert not LockToken.objects.exists()


def test_the_method_delete_with_a_stale_token_is_refused(alice, article):
    token = LockableModel.lock(article)["token"]
    LockableModel.unlock(article, token)
    response = alice.client.delete(alice.url("delete"), headers={"X-Lock-Token": token})
    assert response.status_code == 412
    assert_unchanged(article)


def test_without_the_mixin_the_method_delete_deletes_what_somebody_else_has(alice, bob, settings):
    """The control of the tests above."""
    settings.LOCK_TOKENS = {}
    alice.open()
    assert bob.client.delete(bob.url("unprotected")).status_code == 302
    assert not Article.objects.exists()


def test_a_delete_that_ends_without_a_redirect_releases_the_lock_too(alice, article):
    assert alice.client.delete(alice.url("retire")).status_code == 428
    alice.open("retire")
    assert alice.client.delete(alice.url("retire")).status_code == 204
    article.refresh_from_db()
    assert article.title == "retired"
    assert not LockToken.objects.exists()
    assert alice.token() is None


def test_a_post_that_the_view_answers_as_a_delete_is_judged_once(alice):
    page = alice.open("erase")
    guard = 2 if settings_now.LOCK_TOKENS["ENFORCED_MODELS"] else 0
    assert lock_statements(lambda: alice.send(page, "erase")) == 2 + guard
    assert not Article.objects.exists()


def test_a_post_to_a_view_without_a_form_is_refused_with_a_page(alice, article):
    response = alice.send(view="erase")
    assert response.status_code == 428
    assert "was not saved, because you do not have it locked." in said(response)
    assert_unchanged(article)


def test_a_view_that_deletes_nothing_does_not_offer_to(alice):
    assert alice.client.delete(alice.url("edit")).status_code == 405
    assert "DELETE" not in alice.client.options(alice.url("edit"))["Allow"]


# An open page


def test_an_open_page_knows_how_to_keep_its_lock(alice, article):
    page = alice.open()
    script = script_of(page)
    script.pop("messages")
    assert script == {
        "url": f"{alice.url('edit')}?lock_tokens=",
        "state": "held",
        "token": alice.token(),
        "header": "X-Lock-Token",
        "field": "lock_token",
        "seconds": "3600.0",
        "renewed": "2026-11-22T12:00:00+00:00",
        "idle": "900",
    }
    assert "idle" not in script_of(alice.open("edit-restless"))
    for file in ("client.js", "page.css"):
        assert f"/static/lock_tokens/{file}" in text(page)


def test_an_open_page_renews_its_lock_and_leaves_it(alice, bob, clock):
    page = alice.open()
    clock.tick(2000)
    answer = alice.ask(page).json()
    assert (answer["state"], answer["seconds"]) == ("held", 3600)
    assert alice.ask(page, "leave", renewed=answer["renewed"]).json()["state"] == "held"
    assert bob.open().status_code == 423
    clock.tick(4)
    assert bob.open().status_code == 200
    assert alice.ask(page).json()["state"] == "lost"


def test_a_page_that_was_left_and_comes_back_in_time_still_saves(alice, clock):
    page = alice.open()
    alice.ask(page, "leave")
    clock.tick(100)
    assert alice.send(page).status_code == 302


def test_who_waits_hears_of_the_release(alice, bob):
    hers, his = alice.open(), bob.open()
    assert bob.ask(his, method="get").json()["state"] == "locked"
    assert bob.ask(his, method="get").json()["by"] == "alice"
    assert alice.send(hers).status_code == 302
    assert bob.ask(his, method="get").json()["state"] == "free"
    # To ask takes nothing.
    assert not LockToken.objects.exists()


def test_a_validation_error_renews_the_lock(alice, clock):
    page = alice.open()
    clock.tick(60)
    again = alice.send(page, title="")
    assert script_of(again)["renewed"] == "2026-11-22T12:01:00+00:00"
    assert script_of(again)["token"] == alice.token()
    assert LockToken.objects.get().locked_at == timezone.now()
    # The page that was left for this one does not take the lock with it.
    alice.ask(page, "leave")
    clock.tick(10)
    assert LockToken.objects.live().exists()


def test_other_parameters_of_the_page_stay(alice):
    alice.client.get(f"{alice.url('edit')}?next=/done/&lock=1")
    page = alice.client.get(f"{alice.url('edit')}?next=/done/&lock=1")
    assert script_of(page)["url"] == f"{alice.url('edit')}?next=%2Fdone%2F&lock=1&lock_tokens="


def test_the_status_is_no_lock(alice, article):
    page = alice.open()
    alice.send(page)
    for action in ("renew", "watch", "leave"):
        assert alice.ask(page, action).json()["state"] == "lost"
    assert not LockableModel.is_locked(article)


@pytest.mark.parametrize("view", ["edit-members", "edit-last"])
@pytest.mark.parametrize("method", ["get", "post", "head", "put"])
def test_who_is_not_logged_in_learns_nothing_and_takes_nothing(article, alice, view, method):
    alice.open()
    visitor = Client()
    url = alice.url(view)
    for asked in (url, f"{url}?lock_tokens"):
        headers = {"Accept": "application/json", "X-Lock-Token": alice.token()}
        data = {"action": "leave"} if method == "post" else None
        response = getattr(visitor, method)(asked, data, headers=headers)
        assert response.status_code == 302
        assert response["Location"].startswith("/login/")
    assert LockToken.objects.get().locked_at == timezone.now()


def test_who_may_not_edit_may_not_ask(article, alice):
    url = f"{alice.url('edit-editors')}?lock_tokens"
    assert alice.client.get(url).status_code == 403
    assert alice.client.post(url, {"action": "take_over", "reason": "!"}).status_code == 403
    editor = Browser("editor", article, "app.change_article")
    headers = {"Accept": "application/json"}
    assert editor.client.get(url, headers=headers).json()["state"] == "free"


# Taking over


@pytest.fixture
def chief(article):
    return Browser("chief", article, "lock_tokens.break_lock")


def take_over(browser, reason="It burns.", **more):
    """Follow the link of the page that refuses, and send the form."""
    [url] = re.findall('<a href="([^"]*lock_tokens=)">Take it over…</a>', text(browser.open()))
    page = browser.client.get(url, headers={"Accept": "text/html"})
    assert page.status_code == 200
    [shown] = re.findall('name="lock" value="([^"]*)"', text(page))
    form = {"action": "take_over", "reason": reason, "lock": shown, **more}
    return browser.client.post(url, form, headers={"Accept": "text/html"})


def test_who_may_break_locks_takes_over_and_says_why(alice, chief, article):
    page = alice.open()
    response = take_over(chief)
    assert (response.status_code, response["Location"]) == (302, chief.url("edit"))
    lock = LockToken.objects.get()
    assert (lock.locked_by, lock.token_str) == (chief.user, chief.token())
    entry = LogEntry.objects.get()
    assert (entry.user, entry.change_message) == (chief.user, "Took over the lock: It burns.")
    assert entry.get_edited_object() == article
    answer = alice.ask(page).json()
    told = "At {since} chief took the lock over. What you typed is still here."
    assert (answer["message"], answer["since"]) == (told, "2026-11-22T12:00:00+00:00")
    assert alice.send(page).status_code == 423
    assert_unchanged(article)
    assert chief.send(chief.open()).status_code == 302


def test_an_editor_takes_over_from_a_session_of_his_own(alice, article):
    alice.open()
    elsewhere = Browser("alice", article)
    assert "You are editing this in another session" in said(elsewhere.open())
    assert take_over(elsewhere).status_code == 302
    assert elsewhere.open().status_code == 200


def test_nobody_else_may_take_over(alice, bob):
    page = alice.open()
    assert "Take it over" not in text(bob.open())
    url = f"{bob.url('edit')}?lock_tokens"
    assert bob.client.get(url, headers={"Accept": "text/html"}).status_code == 403
    form = {"action": "take_over", "reason": "!", "lock": LockToken.objects.get().pk}
    assert bob.client.post(url, form).status_code == 403
    assert alice.send(page).status_code == 302
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("form", [{"reason": ""}, {"lock": "0"}])
def test_a_take_over_without_a_reason_or_of_another_lock_asks_again(alice, chief, form):
    page = alice.open()
    response = take_over(chief, **form)
    assert response.status_code == 200
    assert f'name="lock" value="{LockToken.objects.get().pk}"' in text(response)
    assert alice.token() == LockToken.objects.get().token_str
    assert alice.send(page).status_code == 302
    assert not LogEntry.objects.exists()


def test_a_free_article_is_not_taken_over_but_opened(alice, chief):
    url = f"{chief.url('edit')}?lock_tokens"
    response = chief.client.get(url, headers={"Accept": "text/html"})
    assert (response.status_code, response["Location"]) == (302, chief.url("edit"))
    assert not LockToken.objects.exists()


def test_a_take_over_needs_no_admin(alice, chief, modify_admin):
    alice.open()
    assert take_over(chief).status_code == 302
    assert LockToken.objects.get().locked_by == chief.user
    assert not LogEntry.objects.exists()


@pytest.fixture
def modify_admin():
    with modify_settings(INSTALLED_APPS={"remove": ["django.contrib.admin"]}):
        yield


def test_who_has_typed_takes_over_in_a_tab_of_its_own_and_then_compares(alice, chief, article):
    mine = chief.open()
    [lock] = LockToken.objects.all()
    lock.locked_at -= timedelta(seconds=lock.timeout)
    lock.save()
    alice.open()
    refused = chief.send(mine)
    assert re.findall(
        '<a href="[^"]*lock_tokens=" target="_blank">Take it over…</a>', text(refused)
    )
    assert take_over(chief).status_code == 302
    # In the first tab, whose text is still there.
    assert chief.ask(refused, method="get").json()["state"] == "free"
    again = chief.send(refused)
    assert_refused(again, article, 423, OLD)
    assert chief.send(again, button=button_of(again)).status_code == 302


# Other rows


def test_another_row_that_is_refused_undoes_the_save_and_keeps_the_lock(
    alice, bob, article, settings
):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"]}
    other = Article.objects.create(title="other")
    page = alice.open("edit-pair")
    response = alice.send(page, "edit-pair")
    assert response.status_code == 428
    assert f"Article {other.pk} was not saved" in said(response)
    assert (field(response), button_of(response)) == (field(page), None)
    assert compared(response) == []
    assert script_of(response)["state"] == "held"
    assert 'value="new"' in text(response)
    assert set(Article.objects.values_list("title", "body")) == {("old", ""), ("other", "")}
    token = LockableModel.lock(other)["token"]
    assert alice.send(response, "edit-pair").status_code == 423
    both = {"headers": {"X-Lock-Token": token}}
    assert alice.send(response, "edit-pair", **both).status_code == 302


def test_without_enforcement_the_other_row_is_written(alice, article, settings):
    """The control of the test above."""
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": []}
    Article.objects.create(title="other")
    assert alice.send(alice.open("edit-pair"), "edit-pair").status_code == 302
    assert Article.objects.filter(body="written too").exists()


# Statements


def lock_statements(call):
    """Count the statements of ``call`` on the table of locks."""
    with CaptureQueriesContext(connection) as captured:
        call()
    return sum("lock_tokens_locktoken" in query["sql"] for query in captured)


def test_a_page_costs_few_statements(alice, bob, article):
    ContentType.objects.get_for_model(Article)
    assert lock_statements(alice.open) == 1
    assert lock_statements(alice.open) == 1
    page = alice.open()
    # The second and third are for who has it; MariaDB tells that row at once.
    assert lock_statements(bob.open) == (2 if connection.vendor == "mysql" else 3)
    assert lock_statements(lambda: alice.client.head(alice.url("edit"))) == 0
    assert lock_statements(lambda: alice.ask(page)) == 1
    assert lock_statements(lambda: alice.ask(page, "leave")) == 2
    # It is held and renewed, since less than half is left, and released; the guard asks once more.
    guard = 1 if settings_now.LOCK_TOKENS["ENFORCED_MODELS"] else 0
    assert lock_statements(lambda: alice.send(page)) == 3 + guard


def test_what_via_protects_is_edited_under_the_lock_of_its_protector(alice, bob, settings):
    settings.LOCK_TOKENS = {
        "ENFORCED_MODELS": {"app.Story": {}, "app.Correction": {"VIA": "story"}}
    }
    story = Story.objects.create(slug="bridge")
    with locked(story):
        correction = Correction.objects.create(story=story)
    url = reverse("articles:edit-correction", args=[correction.pk])
    page = alice.client.get(url)
    assert field(page) == LockToken.objects.get_for_object(story).token_str
    assert bob.client.get(url).status_code == 423
    typed = {"text": "new", "lock_token": field(page)}
    assert alice.client.post(url, typed).status_code == 302
    correction.refresh_from_db()
    assert correction.text == "new"
    assert not LockToken.objects.exists()


def test_a_page_with_a_token_is_not_kept_by_shared_caches(alice):
    assert alice.open()["Cache-Control"] == "private"
