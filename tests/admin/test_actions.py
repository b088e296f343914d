"""Actions of the change list, and of the change form: what is locked is left out and named."""

from datetime import timedelta

import django
import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.http import HttpResponse
from django.urls import include, path

from lock_tokens.admin import LockableModelAdmin
from lock_tokens.enforcement import suspended
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.sessions import get_session_key, lock_for_session
from lock_tokens.signals import write_refused
from tests.admin.browser import Browser, fields_of, text, told
from tests.app.models import Article, Correction, Section, Story

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]

LIST = "/admin/app/article/"
PLAIN = "/plain/app/article/"
RULES = {
    "enforced": {"app.Article": {}},
    "respect": {"app.Article": {"POLICY": "respect"}},
    "report only": {"app.Article": {"REPORT_ONLY": True}},
    "exempt": {"app.Article": {"EXEMPT_FIELDS": ["body"]}},
    "admin only": {},
}
BY_ALICE = "locked by alice until Nov. 22, 2026, 2 p.m."

site = admin.AdminSite()
plain = admin.AdminSite("plain")
seen = []


def saving(modeladmin, request, queryset):
    for article in queryset:
        article.body = "written"
        article.save()


@admin.action(description="Update the %(verbose_name_plural)s", permissions=["change"])
def updating(modeladmin, request, queryset):
    queryset.update(body="written")


@admin.action(permissions=["publish"])
def publishing(modeladmin, request, queryset):
    queryset.update(body="written")


@admin.action(permissions=["view"])
def reading(modeladmin, request, queryset):
    return HttpResponse(",".join(article.title for article in queryset.order_by("pk")))


def undeclared(modeladmin, request, queryset):
    """Reads only, and does not say so."""
    return reading(modeladmin, request, queryset)


def looking_at_locks(modeladmin, request, queryset):
    seen.append(LockToken.objects.count())


def meddling(modeladmin, request, queryset):
    """Writes its rows, and then one that is not among them."""
    queryset.update(body="written")
    Section.objects.all().delete()


def locking(modeladmin, request, queryset):
    for article in queryset:
        LockableModel.lock(article)


def failing(modeladmin, request, queryset):
    queryset.update(body="written")
    raise RuntimeError("after the write")


class ArticleActions:
    actions = [
        saving,
        updating,
        publishing,
        reading,
        undeclared,
        looking_at_locks,
        meddling,
        locking,
        failing,
        "by_name",
    ]

    def by_name(self, request, queryset):
        queryset.update(body="written")

    def has_publish_permission(self, request):
        return request.user.username != "unpublished"


class ArticleAdmin(ArticleActions, LockableModelAdmin):
    pass


class PlainArticleAdmin(ArticleActions, admin.ModelAdmin):
    pass


def of_the_site(modeladmin, request, queryset):
    queryset.update(body="written")


def text_of_corrections(modeladmin, request, queryset):
    for correction in queryset:
        correction.text = "written"
        correction.save()


class CorrectionAdmin(LockableModelAdmin):
    actions = [text_of_corrections]


for each, model_admin in ((site, ArticleAdmin), (plain, PlainArticleAdmin)):
    each.register(Article, model_admin)
    each.add_action(of_the_site)
for model in (Section, Story):
    site.register(model, LockableModelAdmin)
site.register(Correction, CorrectionAdmin)

urlpatterns = [
    path("admin/", site.urls),
    path("plain/", plain.urls),
    path("lock_tokens/", include("lock_tokens.urls")),
]

WRITING = ["saving", "updating", "publishing", "by_name", "of_the_site"]


@pytest.fixture(autouse=True, params=RULES)
def rule(request, settings):
    settings.ROOT_URLCONF = __name__
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": RULES[request.param]}
    return request.param


@pytest.fixture
def articles():
    return [Article.objects.create(title=title, body="old") for title in "abc"]


def lock_by(browser, obj):
    return LockableModel.lock(obj, by=browser.user, timeout=7200)["token"]


def open_tab(browser, obj):
    """Take the lock for the session, as an open change form has it; return its token."""
    session = browser.client.session
    lock_for_session(obj, session, timeout=7200)
    session.save()
    return session[get_session_key(obj)]


def bodies():
    return list(Article.objects.order_by("pk").values_list("body", flat=True))


@pytest.mark.parametrize("action", WRITING)
class TestOtherPeoplesLocks:
    def test_are_left_out_and_named_while_the_rest_goes_on(self, action, alice, bob, articles):
        lock_by(alice, articles[1])
        response = bob.act(LIST, action, *articles)
        assert response.status_code == 302
        assert bodies() == ["written", "old", "written"]
        assert told(response) == [
            f"1 article was left out, because it is locked: article “b” ({BY_ALICE})."
        ]

    def test_are_lost_without_the_mixin(self, action, alice, bob, articles, settings):
        """The negative control."""
        settings.LOCK_TOKENS = {}
        lock_by(alice, articles[1])
        bob.act(PLAIN, action, *articles)
        assert bodies() == ["written"] * 3

    def test_that_are_all_there_is_stop_the_action(self, action, alice, bob, articles):
        for article in articles[1:]:
            lock_by(alice, article)
        response = bob.act(LIST, action, *articles[1:])
        assert bodies() == ["old"] * 3
        assert told(response) == [
            "2 articles were left out, because they are locked: "
            f"article “c” ({BY_ALICE}); article “b” ({BY_ALICE})."
        ]

    def test_stay_when_all_of_a_long_list_are_chosen(self, action, alice, bob, articles):
        lock_by(alice, articles[2])
        response = bob.act(LIST, action, articles[0], select_across="1")
        assert bodies() == ["written", "written", "old"]
        assert len(told(response)) == 1

    def test_keep_their_token(self, action, alice, bob, articles):
        token = lock_by(alice, articles[1])
        bob.act(LIST, action, *articles)
        assert LockableModel.check_lock(articles[1], token)
        assert LockToken.objects.count() == 1


def test_what_is_left_out_is_logged_and_announced(alice, bob, articles, caplog):
    heard = []

    def listen(**kwargs):
        heard.append((kwargs["pk"], kwargs["reason"], kwargs["path"]))

    lock_by(alice, articles[1])
    write_refused.connect(listen)
    bob.act(LIST, "updating", *articles)
    write_refused.disconnect(listen)
    assert heard == [(articles[1].pk, "ObjectLocked", LIST)]
    assert [record.getMessage() for record in caplog.records] == [
        f"ObjectLocked: app.Article {articles[1].pk}, request {LIST}"
    ]


@pytest.mark.parametrize("action", WRITING)
class TestOtherLocks:
    def test_there_are_none_afterwards(self, action, bob, articles):
        response = bob.act(LIST, action, *articles)
        assert bodies() == ["written"] * 3
        assert told(response) == []
        assert not LockToken.objects.exists()

    def test_of_the_session_end_with_what_they_showed(self, action, bob, articles):
        open_tab(bob, articles[0])
        bob.act(LIST, action, articles[0])
        assert bodies()[0] == "written"
        assert not LockToken.objects.exists()
        assert bob.token(articles[0]) is None

    def test_of_the_session_stay_on_what_is_not_chosen(self, action, bob, articles):
        token = open_tab(bob, articles[0])
        bob.act(LIST, action, articles[1])
        assert bob.token(articles[0]) == token
        assert LockableModel.check_lock(articles[0], token)

    def test_that_expired_become_stale(self, action, alice, bob, articles, noon):
        lock_by(alice, articles[0])
        noon.tick(timedelta(hours=2))
        bob.act(LIST, action, *articles)
        assert bodies() == ["written"] * 3
        assert not LockToken.objects.exists()


class TestReading:
    def test_that_is_declared_gets_locked_rows_too(self, alice, bob, articles):
        lock_by(alice, articles[1])
        response = bob.act(LIST, "reading", *articles)
        assert text(response) == "a,b,c"
        assert told(response) == []

    def test_that_is_not_declared_does_not_get_them(self, alice, bob, articles):
        lock_by(alice, articles[1])
        assert text(bob.act(LIST, "undeclared", *articles)) == "a,c"

    @pytest.mark.parametrize("action", ["reading", "undeclared"])
    def test_ends_no_lock(self, action, alice, bob, articles, noon):
        mine = open_tab(bob, articles[0])
        expired = LockableModel.lock(articles[1], timeout=1)["token"]
        noon.tick(timedelta(minutes=1))
        assert text(bob.act(LIST, action, *articles)) == "a,b,c"
        assert bob.token(articles[0]) == mine
        tokens = set(LockToken.objects.values_list("token_str", flat=True))
        assert tokens == {mine, expired}


class TestClaim:
    def test_is_on_all_rows_while_the_action_runs(self, bob, articles):
        seen.clear()
        bob.act(LIST, "looking_at_locks", *articles)
        assert seen == [3]
        assert not LockToken.objects.exists()

    def test_and_all_that_was_written_is_undone_by_an_error(self, bob, articles):
        with pytest.raises(RuntimeError, match="after the write"):
            bob.act(LIST, "failing", *articles)
        assert bodies() == ["old"] * 3
        assert not LockToken.objects.exists()

    def test_that_an_action_does_not_expect_is_no_server_error(self, bob, articles):
        response = bob.act(LIST, "locking", articles[0])
        assert response.status_code == 302
        assert told(response) == [
            f"Nothing was done. Article {articles[0].pk} is already locked; try again when it is "
            "free. Locked since Nov. 22, 2026, noon until Nov. 22, 2026, 1 p.m."
        ]
        assert not LockToken.objects.exists()

    def test_is_taken_in_portions_of_very_many_rows(self, alice, bob, monkeypatch):
        monkeypatch.setattr("lock_tokens.admin.lists.PINNED", 1000)
        Article.objects.bulk_create(Article(title=str(n), body="old") for n in range(4100))
        locked = Article.objects.order_by("pk")[2000]
        lock_by(alice, locked)
        bob.act(LIST, "updating", locked, select_across="1")
        assert list(Article.objects.filter(body="old")) == [locked]
        assert LockToken.objects.count() == 1

    def test_costs_the_same_for_few_rows_and_many(self, alice, bob, count_statements, rule):
        ContentType.objects.get_for_model(Article)

        def cost(size):
            Article.objects.bulk_create(Article(title=str(n)) for n in range(size))
            rows = list(Article.objects.order_by("-pk")[:size])
            lock_by(alice, rows[0])
            open_tab(bob, rows[1])
            return count_statements(lambda: bob.act(LIST, "updating", *rows))

        assert cost(3) == cost(60)

    def test_costs_few_statements_more_than_a_plain_one(self, bob, articles, count_statements):
        for url in (PLAIN, LIST):
            bob.act(url, "updating", *articles)
        bare = count_statements(lambda: bob.act(PLAIN, "updating", *articles))
        assert count_statements(lambda: bob.act(LIST, "updating", *articles)) <= bare + 4


class TestActionItself:
    def test_is_offered_as_ever(self, bob, articles):
        def offered(url):
            return bob.open(url).context["action_form"].fields["action"].choices

        assert offered(LIST) == offered(PLAIN)
        assert ("updating", "Update the articles") in offered(LIST)

    def test_needs_its_permission_as_ever(self, articles):
        unpublished = Browser("unpublished")
        choices = unpublished.open(LIST).context["action_form"].fields["action"].choices
        assert "publishing" not in dict(choices)
        assert "updating" in dict(choices)

    @pytest.mark.parametrize("url", [LIST, PLAIN])
    def test_without_rows_says_so_as_ever(self, url, bob, articles):
        assert told(bob.act(url, "updating")) == [
            "Items must be selected in order to perform actions on them. "
            "No items have been changed."
        ]


class TestDeleting:
    def test_asks_first_and_leaves_out_what_is_locked(self, alice, bob, articles, noon):
        lock_by(alice, articles[1])
        mine = open_tab(bob, articles[0])
        page = bob.act(LIST, "delete_selected", *articles)
        assert page.status_code == 200
        chosen = sorted(map(int, fields_of(page)["_selected_action"]))
        assert chosen == [articles[0].pk, articles[2].pk]
        assert len(told(page)) == 1
        assert Article.objects.count() == 3
        assert bob.token(articles[0]) == mine

    def test_deletes_the_rows_and_their_locks(self, bob, articles):
        open_tab(bob, articles[0])
        page = bob.act(LIST, "delete_selected", *articles)
        response = bob.send(page, url=LIST)
        assert told(response) == ["Successfully deleted 3 articles."]
        assert not Article.objects.exists()
        assert not LockToken.objects.exists()
        assert bob.token(articles[0]) is None
        assert LogEntry.objects.count() == 3

    def test_leaves_out_what_was_locked_since_it_asked(self, alice, bob, articles):
        page = bob.act(LIST, "delete_selected", *articles)
        lock_by(alice, articles[1])
        response = bob.send(page, url=LIST)
        assert list(Article.objects.all()) == [articles[1]]
        assert told(response) == [
            f"1 article was left out, because it is locked: article “b” ({BY_ALICE}).",
            "Successfully deleted 2 articles.",
        ]

    def test_loses_it_without_the_mixin(self, alice, bob, articles, settings):
        """The negative control."""
        settings.LOCK_TOKENS = {}
        page = bob.act(PLAIN, "delete_selected", *articles)
        lock_by(alice, articles[1])
        bob.send(page, url=PLAIN)
        assert not Article.objects.exists()


class TestOtherRows:
    """Rows that are written along, and are not among those that were chosen."""

    @pytest.fixture(autouse=True)
    def rule(self, settings):
        settings.ROOT_URLCONF = __name__
        settings.LOCK_TOKENS = {
            "ENFORCED_MODELS": {"app.Story": {}, "app.Correction": {"VIA": "story"}}
        }

    @pytest.fixture
    def story(self):
        with suspended(reason="fixture"):
            section = Section.objects.create(name="a")
            story = Story.objects.create(slug="a", section=section)
            Correction.objects.create(story=story)
            Correction.objects.create(story=story)
        return story

    def test_that_cascade_roll_everything_back_and_are_named(self, alice, bob, story, articles):
        lock_by(alice, story)
        response = bob.act(LIST, "meddling", *articles)
        assert response.status_code == 302
        assert bodies() == ["old"] * 3
        assert Story.objects.count() == 1
        assert told(response) == [
            f"Nothing was done. Story {story.pk} was not saved, because it is locked. "
            "Locked since Nov. 22, 2026, noon until Nov. 22, 2026, 2 p.m. by alice."
        ]

    def test_that_cascade_are_not_deleted_along(self, alice, bob, story):
        lock_by(alice, story)
        page = bob.act("/admin/app/section/", "delete_selected", story.section)
        response = bob.send(page, url="/admin/app/section/")
        assert Story.objects.exists()
        assert [message[:20] for message in told(response)] == ["Nothing was done. St"]

    def test_whose_lock_protects_the_chosen_ones_are_claimed(self, bob, story):
        rows = Correction.objects.all()
        response = bob.act("/admin/app/correction/", "text_of_corrections", *rows)
        assert told(response) == []
        assert set(rows.values_list("text", flat=True)) == {"written"}
        assert not LockToken.objects.exists()

    def test_whose_lock_protects_them_may_be_somebody_elses(self, alice, bob, story):
        lock_by(alice, story)
        rows = Correction.objects.all()
        response = bob.act("/admin/app/correction/", "text_of_corrections", *rows)
        assert set(rows.values_list("text", flat=True)) == {"old"}
        assert "2 corrections were left out, because they are locked: " in told(response)[0]

    def test_whose_lock_protects_them_lose_it_to_a_write(self, bob, story):
        open_tab(bob, story)
        rows = Correction.objects.all()
        bob.act("/admin/app/correction/", "text_of_corrections", rows[0])
        assert bob.token(story) is None
        assert not LockToken.objects.exists()


class TestChangeForm:
    @pytest.fixture(autouse=True)
    def on_the_form(self, monkeypatch):
        from django.contrib.admin.options import ActionLocation

        both = [ActionLocation.CHANGE_LIST, ActionLocation.CHANGE_FORM]
        monkeypatch.setattr(updating, "locations", both, raising=False)

    def url(self, article):
        return f"{LIST}{article.pk}/change/"

    def test_runs_under_the_lock_of_the_page_and_ends_it(self, bob, articles):
        page = bob.open(self.url(articles[0]))
        response = bob.send(page, {"CHANGE_FORM-action": "updating"})
        assert response.status_code == 302
        assert bodies() == ["written", "old", "old"]
        assert not LockToken.objects.exists()
        assert bob.token(articles[0]) is None

    def test_does_not_run_from_a_page_whose_lock_was_taken_over(self, alice, bob, articles, noon):
        page = bob.open(self.url(articles[0]))
        noon.tick(timedelta(hours=2))
        token = lock_by(alice, articles[0])
        response = bob.send(page, {"CHANGE_FORM-action": "updating"})
        assert response.status_code in (200, 302, 403)
        assert bodies() == ["old"] * 3
        assert LockableModel.check_lock(articles[0], token)


# Django has actions on change forms since 6.1.
if django.VERSION < (6, 1):
    del TestChangeForm
