"""Two people in the admin at once: rows that nobody opened are written by one after the other."""

import pytest
from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.urls import include, path

from lock_tokens.admin import LockableModelAdmin
from lock_tokens.models import LockableModel, LockToken
from tests.admin.browser import Browser
from tests.app.models import Article
from tests.race.players import interleaved

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/{}/app/article/"
WRITES = "UPDATE app_article"

site = admin.AdminSite()
plain = admin.AdminSite("plain")


def count_up(modeladmin, request, queryset):
    for article in queryset:
        article.view_count += 1
        article.save()


class Articles:
    list_display = ("__str__", "body")
    list_editable = ("body",)
    actions = [count_up]


site.register(Article, type("ArticleAdmin", (Articles, LockableModelAdmin), {}))
plain.register(Article, type("PlainArticleAdmin", (Articles, admin.ModelAdmin), {}))

urlpatterns = [
    path("admin/", site.urls),
    path("plain/", plain.urls),
    path("lock_tokens/", include("lock_tokens.urls")),
]


@pytest.fixture(autouse=True, params=[["app.Article"], []], ids=["enforced", "admin only"])
def rule(request, settings):
    settings.ROOT_URLCONF = __name__
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": request.param}


# On SQLite a transaction that has read can wait for no other.
ATOMIC_REQUESTS = [False] if connection.vendor == "sqlite" else [False, True]


@pytest.fixture(params=ATOMIC_REQUESTS, ids={False: "", True: "atomic requests"}.get)
def atomic_requests(request, monkeypatch):
    # Each thread has a connection of its own, made from these settings.
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", request.param)


@pytest.fixture
def article():
    ContentType.objects.get_for_model(Article)
    return Article.objects.create(title="a", body="old")


@pytest.fixture
def people():
    return Browser("alice"), Browser("bob")


def edits(people, at):
    """Return for each of the people a save of the same page, and what they got."""
    url, got = LIST.format(at), {}

    def edit(person):
        page = person.open(url)
        name = person.user.username

        def send():
            typed = {"form-0-body": [name], "_save": ["Save"]}
            got[name] = person.send(page, typed, url=url).status_code

        return send

    return [edit(person) for person in people], got


def test_of_two_who_save_the_same_row_of_a_list_one_is_refused(atomic_requests, people, article):
    works, got = edits(people, "admin")
    assert interleaved(*works, at=WRITES) == [None, None]
    assert got == {"alice": 302, "bob": 200}
    assert Article.objects.get().body == "alice"
    assert not LockToken.objects.exists()


def test_without_the_mixin_both_believe_to_have_saved_it(people, article, settings):
    """The negative control."""
    settings.LOCK_TOKENS = {}
    works, got = edits(people, "plain")
    interleaved(*works, at=WRITES)
    assert got == {"alice": 302, "bob": 302}


def counts(people, article, at):
    return [lambda p=person: p.act(LIST.format(at), "count_up", article) for person in people]


def test_actions_of_two_on_the_same_row_both_count(atomic_requests, people, article):
    assert interleaved(*counts(people, article, "admin"), at=WRITES) == [None, None]
    assert Article.objects.get().view_count == 2


def test_without_the_mixin_one_of_them_is_lost(people, article, settings):
    """The negative control."""
    settings.LOCK_TOKENS = {}
    interleaved(*counts(people, article, "plain"), at=WRITES)
    assert Article.objects.get().view_count == 1


def test_a_save_in_the_list_keeps_what_an_action_wrote_to_other_fields(people, article):
    action, _ = counts(people, article, "admin")
    (_, edit), got = edits(people, "admin")
    assert interleaved(action, edit, at=WRITES) == [None, None]
    assert got == {"bob": 302}
    assert Article.objects.values_list("view_count", "body").get() == (1, "bob")


def lock_and_read(article, seen):
    def work():
        LockableModel.lock(article)
        seen.append(Article.objects.get().view_count)

    return work


def test_who_takes_the_lock_of_a_row_sees_what_the_action_wrote(people, article):
    seen = []
    action, _ = counts(people, article, "admin")
    assert interleaved(action, lock_and_read(article, seen), at=WRITES) == [None, None]
    assert seen == [1]
    assert LockToken.objects.count() == 1


def test_without_the_mixin_what_he_sees_is_overwritten(people, article, settings):
    """The negative control."""
    settings.LOCK_TOKENS = {}
    seen = []
    action, _ = counts(people, article, "plain")
    interleaved(action, lock_and_read(article, seen), at=WRITES)
    assert seen == [0]
    assert Article.objects.get().view_count == 1
