"""What templates of one's own show of a lock: the banner, and the page's script in the admin."""

import re

import pytest
from django.contrib import admin
from django.contrib.admin.sites import all_sites
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.core.exceptions import ImproperlyConfigured
from django.template import Context, RequestContext, Template
from django.urls import path
from freezegun import freeze_time

from lock_tokens.admin import LockableModelAdmin
from lock_tokens.models import LockableModel
from lock_tokens.sessions import lock_for_session
from tests.app.models import Article, Page

pytestmark = pytest.mark.django_db

site = admin.AdminSite()
site.register(Article, LockableModelAdmin)
site.register(Page, admin.ModelAdmin)
all_sites.discard(site)
urlpatterns = [path("admin/", site.urls)]

SHOWS = (
    "{% load lock_tokens_tags %}{% lock_status article as lock %}"
    '{% include "lock_tokens/banner.html" %}'
)
HANDLER = "{% load lock_tokens_tags %}{% admin_lock_handler app model article.pk token %}"
NONE = "0" * 32


@pytest.fixture(autouse=True)
def noon():
    with freeze_time("2026-11-22 12:00:00") as clock:
        yield clock


@pytest.fixture
def urls(settings):
    settings.ROOT_URLCONF = __name__


@pytest.fixture
def request_of(rf):
    """Make the request of a user, or of a visitor."""

    def make(user=None):
        request = rf.get("/")
        request.user = user or AnonymousUser()
        request.session = SessionStore()
        return request

    return make


def shown(request, article):
    return Template(SHOWS).render(RequestContext(request, {"article": article})).strip()


def handled(request, article, token, app="app", model="article", **more):
    context = {"article": article, "token": token, "app": app, "model": model, **more}
    return Template(HANDLER).render(RequestContext(request, context))


def attributes(page):
    [tag] = re.findall(r"<script [^>]*lock_tokens/page.js[^>]*>", page)
    return dict(re.findall(r'data-(\w+)="([^"]*)"', tag))


# {% include "lock_tokens/banner.html" %}


def test_a_page_that_shows_a_locked_object_says_who_has_it(request_of, article, alice, bob, lock):
    LockableModel.lock(article)
    assert "Locked until" in shown(request_of(), article)
    page = shown(request_of(bob), article)
    assert page.startswith('<div class="lock-tokens-banner">')
    # Nothing is asked of the server: there is nothing to keep.
    assert attributes(page) == {}
    assert "client.js" not in page
    assert page.count("lock_tokens/page.css") == 1


def test_a_page_that_shows_a_free_object_says_nothing(request_of, article):
    assert shown(request_of(), article) == ""


def test_the_reader_s_own_lock_is_told_as_such(request_of, article):
    request = request_of()
    lock_for_session(article, request.session)
    assert "Locked by you until" in shown(request, article)


def test_the_banner_of_a_page_costs_what_its_status_costs(request_of, article, assert_statements):
    LockableModel.lock(article)
    with assert_statements(1):
        shown(request_of(), article)


def test_a_banner_with_nothing_to_show_is_nothing():
    page = Template('{% include "lock_tokens/banner.html" %}').render(Context())
    assert page.strip() == ""


@pytest.mark.parametrize("tag", ["link", "script"])
def test_what_the_banner_loads_carries_the_nonce(request_of, article, tag):
    LockableModel.lock(article)
    context = RequestContext(request_of(), {"article": article, "csp_nonce": "n0nce"})
    loaded = re.findall(f"<{tag} [^>]*>", Template(SHOWS).render(context))
    assert loaded
    assert all('nonce="n0nce"' in element for element in loaded)


# {% admin_lock_handler %}


@pytest.mark.usefixtures("urls")
def test_a_page_of_one_s_own_in_the_admin_keeps_the_lock(request_of, article, assert_statements):
    token = LockableModel.lock(article)["token"]
    with assert_statements(1):
        page = handled(request_of(), article, token)
    assert f'<input type="hidden" name="lock_token" value="{token}">' in page
    found = attributes(page)
    found.pop("messages")
    assert found == {
        "url": f"/admin/app/article/{article.pk}/lock/",
        "state": "held",
        "token": token,
        "header": "X-Lock-Token",
        "field": "lock_token",
        "seconds": "3600.0",
        "renewed": "2026-11-22T12:00:00+00:00",
        "idle": "900",
    }
    assert page.index("lock_tokens/client.js") < page.index("lock_tokens/page.js")
    assert "lock_tokens/page.css" in page


@pytest.mark.usefixtures("urls")
def test_a_stale_token_is_presented_and_not_kept(request_of, article):
    LockableModel.lock(article)
    page = handled(request_of(), article, NONE)
    assert f'value="{NONE}"' in page
    assert attributes(page)["state"] == "locked"
    assert "token" not in attributes(page)


@pytest.mark.usefixtures("urls")
@pytest.mark.parametrize("token", [None, ""])
def test_without_a_token_there_is_nothing_to_handle(request_of, article, token):
    assert handled(request_of(), article, token) == ""


@pytest.mark.usefixtures("urls")
def test_the_admin_s_own_pages_are_not_handled_twice(request_of, article):
    token = LockableModel.lock(article)["token"]
    media = '<script src="/static/lock_tokens/page.js" defer></script>'
    assert handled(request_of(), article, token, media=media) == ""


@pytest.mark.usefixtures("urls")
@pytest.mark.parametrize("model", ["Page", "Nothing"])
def test_a_model_without_the_admin_s_lock_is_told(request_of, article, model):
    with pytest.raises(ImproperlyConfigured) as caught:
        handled(request_of(), article, NONE, model=model)
    assert str(caught.value) == (
        "{% admin_lock_handler %} finds no page for the lock on "
        f"app.{model}: register the model in the admin with lock_tokens.admin.LockableModelAdmin, "
        "and add admin.site.urls to the URLs."
    )


@pytest.mark.usefixtures("urls")
def test_without_a_request_it_says_what_is_missing(article):
    context = {"article": article, "token": NONE, "app": "app", "model": "article"}
    with pytest.raises(ImproperlyConfigured) as caught:
        Template(HANDLER).render(Context(context))
    assert str(caught.value).startswith(
        "{% admin_lock_handler %} needs the request in its context: "
    )
