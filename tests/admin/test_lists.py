"""The column of the change list that says who has a row locked."""

from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from django.test import RequestFactory
from django.urls import include, path
from django.utils import timezone
from freezegun import freeze_time

from lock_tokens.admin import LockableModelAdmin
from lock_tokens.models import LockableModel
from lock_tokens.sessions import lock_for_session
from tests.admin.browser import Browser, text
from tests.app.models import Article, Restaurant, Slug

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]

NOON = "2026-11-22 12:00:00"
LIST = "/admin/app/article/"

site = admin.AdminSite()
plain = admin.AdminSite("plain")
placed = admin.AdminSite("placed")
own = admin.AdminSite("own")


class Placed(LockableModelAdmin):
    list_display = ("lock_status", "title")
    list_display_links = ("title",)


class Own(LockableModelAdmin):
    @admin.display(description="mine")
    def lock_status(self, obj):
        return f"my own word on {obj}"


for model in (Article, Restaurant, Slug):
    site.register(model, LockableModelAdmin)
plain.register(Article, admin.ModelAdmin)
placed.register(Article, Placed)
own.register(Article, Own)

urlpatterns = [
    path("admin/", site.urls),
    path("plain/", plain.urls),
    path("placed/", placed.urls),
    path("own/", own.urls),
    path("lock_tokens/", include("lock_tokens.urls")),
]


@pytest.fixture(autouse=True, params=[{"app.Article": {}}, {}], ids=["enforced", "admin only"])
def rule(request, settings):
    settings.ROOT_URLCONF = __name__
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": request.param}


@pytest.fixture
def articles():
    return [Article.objects.create(title=title) for title in "abc"]


def cells(page):
    """Return what the column has in each row, from top to bottom."""
    rows = text(page).split('<td class="field-lock_status">')[1:]
    return [row.split("</td>")[0] for row in rows]


def cell(alt, who, until="2:00 p.m.", moment="2026-11-22T14:00:00+00:00"):
    by = f"<bdi>{who}</bdi> " if who else ""
    return (
        '<span class="lock-tokens-status">'
        f'<img src="/static/lock_tokens/lock.svg" alt="{alt}"> <span aria-hidden="true">'
        f'{by}until <time datetime="{moment}" data-lock-tokens-time>{until}</time>'
        "</span></span>"
    )


BY_ALICE = cell("Locked by alice until 2 p.m.", "alice", "2 p.m.")
FREE = "-"


def lock_by(browser, obj, **options):
    return LockableModel.lock(obj, by=browser.user, timeout=7200, **options)


class TestColumn:
    def test_says_who_has_a_row_and_until_when(self, alice, bob, articles):
        lock_by(alice, articles[1])
        assert cells(bob.open(f"{LIST}?o=")) == [FREE, BY_ALICE, FREE]

    def test_says_you_of_the_sessions_own_lock(self, alice, articles):
        session = alice.client.session
        lock_for_session(articles[0], session, timeout=7200)
        session.save()
        mine = cell("Locked by you until 2 p.m.", "you", "2 p.m.")
        assert cells(alice.open(f"{LIST}?o="))[2] == mine

    def test_shows_no_lock_that_has_expired(self, alice, bob, articles, noon):
        lock_by(alice, articles[0])
        noon.tick(timedelta(hours=2))
        assert cells(bob.open(LIST)) == [FREE] * 3

    def test_shows_a_lock_of_nobody_that_is_known(self, bob, articles, lock):
        lock(articles[2], timeout=7200)
        nobody = cell("Locked until 2 p.m.", "", "2 p.m.")
        assert cells(bob.open(LIST)) == [nobody, FREE, FREE]

    def test_tells_no_name_where_names_are_not_to_be_told(self, alice, bob, articles, settings):
        lock_by(alice, articles[2])
        settings.LOCK_TOKENS = {**settings.LOCK_TOKENS, "SHOW_HOLDER": False}
        page = bob.open(LIST)
        assert cells(page)[0] == cell("Locked until 2 p.m.", "", "2 p.m.")
        assert "alice" not in text(page)

    def test_has_the_readers_time_zone_and_the_date_of_another_day(self, alice, bob, articles):
        lock_by(alice, articles[2])
        with timezone.override("Asia/Tokyo"):
            assert cells(bob.open(LIST))[0] == cell(
                "Locked by alice until 11 p.m.", "alice", "11 p.m.", "2026-11-22T23:00:00+09:00"
            )
        with timezone.override("Pacific/Kiritimati"), freeze_time("2026-11-22 09:00:00"):
            assert "Nov. 23, 2026, 4 a.m." in cells(bob.open(LIST))[0]

    def test_escapes_what_users_call_themselves(self, bob, articles):
        mallory = Browser("<script>")
        lock_by(mallory, articles[2])
        assert "<bdi>&lt;script&gt;</bdi>" in cells(bob.open(LIST))[0]

    def test_never_has_a_token(self, alice, bob, articles):
        token = lock_by(alice, articles[0])["token"]
        assert token not in text(bob.open(LIST))

    @pytest.mark.parametrize(
        ("model", "values"), [(Restaurant, {"name": "a"}), (Slug, {"slug": "A/b c"})]
    )
    def test_knows_the_locks_of_children_and_of_text_keys(self, alice, bob, model, values):
        lock_by(alice, model.objects.create(**values))
        assert cells(bob.open(f"/admin/app/{model._meta.model_name}/")) == [BY_ALICE]

    def test_of_a_key_that_no_lock_can_have_is_empty(self, alice, bob):
        Slug.objects.create(slug="a" * 300)
        lock_by(alice, Slug.objects.create(slug="b"))
        assert cells(bob.open("/admin/app/slug/")) == [BY_ALICE, FREE]

    def test_stays_where_the_project_put_it(self, alice, bob, articles):
        lock_by(alice, articles[2])
        page = bob.open("/placed/app/article/")
        assert cells(page)[0] == BY_ALICE
        assert text(page).count("column-lock_status") == 1
        assert text(page).index("column-lock_status") < text(page).index("column-title")

    def test_may_be_the_projects_own(self, bob, articles):
        assert cells(bob.open("/own/app/article/")) == [f"my own word on {each}" for each in "cba"]

    def test_of_one_object_is_to_be_had_anywhere(self, alice, article):
        lock_by(alice, article)
        assert "Locked until 2 p.m." in site.get_model_admin(Article).lock_status(article)

    def test_has_a_heading_that_sorts_nothing(self, bob, articles):
        page = text(bob.open(LIST))
        heading = page[page.index("column-lock_status") :]
        assert "<span>Lock</span>" in heading[: heading.index("</th>")]


class TestStatements:
    @pytest.fixture
    def count(self, bob, count_statements):
        def of(url):
            # What a process asks for once is not counted.
            bob.open(url)
            return count_statements(lambda: bob.open(url))

        return of

    @pytest.mark.parametrize("size", [1, 3, 50])
    def test_a_page_costs_one_more_than_a_plain_one(self, count, alice, size):
        Article.objects.bulk_create(Article(title=str(n)) for n in range(size))
        for article in Article.objects.all():
            lock_by(alice, article)
        assert count(LIST) == count("/plain/app/article/") + 1

    def test_an_empty_page_costs_none_more(self, count):
        assert count(LIST) == count("/plain/app/article/")

    def test_a_list_without_the_column_costs_none_more(self, count, articles, monkeypatch):
        shown = admin.ModelAdmin.get_list_display
        monkeypatch.setattr(LockableModelAdmin, "get_list_display", shown)
        assert count(LIST) == count("/plain/app/article/")

    def test_a_post_that_shows_no_list_costs_none_more(self, bob, articles, count_statements):
        ContentType.objects.get_for_model(Article)

        def nothing_chosen(url):
            return count_statements(lambda: bob.act(url, "", articles[0]))

        assert nothing_chosen(LIST) == nothing_chosen("/plain/app/article/")


class TestSharedModelAdmin:
    def test_two_requests_at_once_see_each_their_own_locks(self, alice, bob, articles):
        """Both have their page before either of them asks for a lock."""
        shared = site.get_model_admin(Article)
        ContentType.objects.get_for_model(Article)
        lock_by(alice, articles[0])
        session = bob.client.session
        lock_for_session(articles[1], session, timeout=7200)

        def request(browser, session):
            made = RequestFactory().get(LIST)
            made.user, made.session = browser.user, session
            return made

        requests = request(alice, alice.client.session), request(bob, session)
        pages = [shared.get_changelist_instance(each) for each in requests]
        seen = [[page.list_display[-1](row) for row in page.result_list] for page in pages]
        locked = "Locked by %s until"
        assert [
            [who for who in ("alice", "bob", "you") if locked % who in str(shown)]
            for page in seen
            for shown in page
        ] == [[], ["bob"], ["alice"], [], ["you"], ["alice"]]

    def test_nothing_is_kept_on_it(self, alice, bob, articles):
        shared = site.get_model_admin(Article)
        before = dict(vars(shared))
        lock_by(alice, articles[0])
        bob.open(LIST)
        bob.act(LIST, "delete_selected", *articles)
        assert vars(shared) == before
