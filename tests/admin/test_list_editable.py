"""Rows edited in the change list: nothing that somebody else did is lost to a page that is old."""

from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest
from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from django.core.files.base import ContentFile
from django.db import connection
from django.urls import include, path

from lock_tokens.admin import LockableModelAdmin
from lock_tokens.enforcement import suspended
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.sessions import get_session_key, lock_for_session
from tests.admin.browser import fields_of, text, told
from tests.app.models import Article, Correction, Section, Sheet, Story

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]

LIST = "/admin/app/article/"
PLAIN = "/plain/app/article/"
RULES = {
    "enforced": {"app.Article": {}},
    "respect": {"app.Article": {"POLICY": "respect"}},
    "report only": {"app.Article": {"REPORT_ONLY": True}},
    "admin only": {},
}
BY_ALICE = "Locked by alice until Nov. 22, 2026, 2 p.m."
STALE = "has been changed since this page was opened. Open it afresh."

site = admin.AdminSite()
plain = admin.AdminSite("plain")


class EditableArticles:
    list_display = ("__str__", "title", "body")
    list_editable = ("title", "body")
    ordering = ("title",)


class ArticleAdmin(EditableArticles, LockableModelAdmin):
    pass


class PlainArticleAdmin(EditableArticles, admin.ModelAdmin):
    pass


class MeddlingArticleAdmin(ArticleAdmin):
    """Writes a row that nobody sees in the list."""

    def save_model(self, request, obj, form, change):
        super().save_model(request, obj, form, change)
        Story.objects.update(title="new")


class SheetAdmin(LockableModelAdmin):
    list_display = ("id", "title", "views", "price", "at", "data", "file", "section", "number")
    list_editable = list_display[1:]


class CorrectionAdmin(LockableModelAdmin):
    list_display = ("id", "text")
    list_editable = ("text",)


site.register(Article, ArticleAdmin)
site.register(Sheet, SheetAdmin)
site.register(Correction, CorrectionAdmin)
plain.register(Article, PlainArticleAdmin)
meddling = admin.AdminSite("meddling")
meddling.register(Article, MeddlingArticleAdmin)

urlpatterns = [
    path("admin/", site.urls),
    path("plain/", plain.urls),
    path("meddling/", meddling.urls),
    path("lock_tokens/", include("lock_tokens.urls")),
]


@pytest.fixture(autouse=True, params=RULES)
def rule(request, settings):
    settings.ROOT_URLCONF = __name__
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": RULES[request.param]}


@pytest.fixture(autouse=True, params=[False, True], ids=["", "atomic requests"])
def atomic_requests(request, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", request.param)


@pytest.fixture
def articles():
    return [Article.objects.create(title=title, body=f"old {title}") for title in "abc"]


def lock_by(browser, obj):
    return LockableModel.lock(obj, by=browser.user, timeout=7200)["token"]


def open_tab(browser, obj):
    session = browser.client.session
    lock_for_session(obj, session, timeout=7200)
    session.save()
    return session[get_session_key(obj)]


def stored(model=Article, fields=("title", "body")):
    return list(model.objects.order_by("pk").values_list(*fields))


def meanwhile(article, **values):
    """Write a row as somebody else does who had it open."""
    with suspended(reason="somebody else's write"):
        Article.objects.filter(pk=article.pk).update(**values)


def save(browser, page, url=LIST, without=(), **typed):
    typed = {name.replace("_", "-", 2): [value] for name, value in typed.items()}
    return browser.send(page, {**typed, "_save": ["Save"]}, url=url, without=without)


def row_errors(response):
    return [form.non_field_errors() for form in response.context["cl"].formset.forms]


OLD = [("a", "old a"), ("b", "old b"), ("c", "old c")]


class TestSaving:
    def test_writes_the_rows_that_were_changed(self, bob, articles):
        response = save(bob, bob.open(LIST), form_1_body="new")
        assert response.status_code == 302
        assert stored() == [OLD[0], ("b", "new"), OLD[2]]
        assert told(response) == ["1 article was changed successfully."]
        assert not LockToken.objects.exists()

    def test_leaves_alone_what_others_changed_in_rows_that_were_not(self, bob, articles):
        page = bob.open(LIST)
        meanwhile(articles[0], title="A", body="theirs")
        response = save(bob, page, form_1_body="new")
        assert response.status_code == 302
        assert stored() == [("A", "theirs"), ("b", "new"), OLD[2]]

    def test_loses_that_without_the_mixin(self, bob, articles, settings):
        """The negative control."""
        settings.LOCK_TOKENS = {}
        page = bob.open(PLAIN)
        meanwhile(articles[0], body="theirs")
        save(bob, page, PLAIN, form_1_body="new")
        assert stored() == [OLD[0], ("b", "new"), OLD[2]]

    def test_leaves_alone_what_others_changed_in_fields_that_are_not_in_the_list(
        self, bob, articles
    ):
        page = bob.open(LIST)
        meanwhile(articles[0], view_count=7)
        save(bob, page, form_0_body="new")
        assert stored(fields=["body", "view_count"])[0] == ("new", 7)

    def test_ends_the_sessions_own_lock_of_what_it_wrote(self, bob, articles):
        open_tab(bob, articles[0])
        kept = open_tab(bob, articles[1])
        save(bob, bob.open(LIST), form_0_body="new")
        assert stored()[0] == ("a", "new")
        assert bob.token(articles[0]) is None
        assert bob.token(articles[1]) == kept
        assert [lock.token_str for lock in LockToken.objects.all()] == [kept]

    def test_makes_an_expired_lock_of_somebody_else_stale(self, alice, bob, articles, noon):
        lock_by(alice, articles[0])
        noon.tick(timedelta(hours=2))
        save(bob, bob.open(LIST), form_0_body="new")
        assert stored()[0] == ("a", "new")
        assert not LockToken.objects.exists()

    def test_of_nothing_writes_and_locks_nothing(self, alice, bob, articles):
        for article in articles:
            lock_by(alice, article)
        response = save(bob, bob.open(LIST))
        assert response.status_code == 302
        assert told(response) == []
        assert stored() == OLD

    def test_costs_the_same_for_few_rows_and_many(self, bob, count_statements):
        ContentType.objects.get_for_model(Article)
        Article.objects.bulk_create(Article(title=str(n), body="old") for n in range(30))

        def cost(size):
            page = bob.open(LIST)
            typed = {f"form_{n}_body": str(size) for n in range(size)}
            return count_statements(lambda: save(bob, page, **typed))

        # Each row that is saved is written, and its change logged, as ever.
        assert cost(30) - 30 * 2 <= cost(3) - 3 * 2 + 1


class TestRefusing:
    def refused(self, browser, page, **typed):
        response = save(browser, page, **typed)
        assert response.status_code == 200
        return response

    def test_a_row_that_somebody_else_has_locked(self, alice, bob, articles):
        page = bob.open(LIST)
        lock_by(alice, articles[1])
        response = self.refused(bob, page, form_0_body="mine", form_1_body="mine too")
        assert stored() == OLD
        assert row_errors(response) == [[], [BY_ALICE], []]
        assert told(response) == [f"Nothing was saved. article “b”: {BY_ALICE}"]

    def test_a_row_that_is_stale(self, bob, articles):
        page = bob.open(LIST)
        meanwhile(articles[1], title="theirs")
        response = self.refused(bob, page, form_0_body="mine", form_1_body="mine too")
        assert stored() == [OLD[0], ("theirs", "old b"), OLD[2]]
        assert row_errors(response) == [[], [f"Title {STALE}"], []]
        assert told(response) == [f"Nothing was saved. article “theirs”: Title {STALE}"]

    def test_a_stale_row_is_lost_without_the_mixin(self, bob, articles, settings):
        """The negative control."""
        settings.LOCK_TOKENS = {}
        page = bob.open(PLAIN)
        meanwhile(articles[1], title="theirs")
        save(bob, page, PLAIN, form_1_body="mine")
        assert stored()[1] == ("b", "mine")

    def test_keeps_what_was_typed(self, alice, bob, articles):
        page = bob.open(LIST)
        lock_by(alice, articles[1])
        again = self.refused(bob, page, form_0_body="mine", form_1_body="mine too")
        fields = fields_of(again)
        assert (fields["form-0-body"], fields["form-1-body"]) == (["mine"], ["mine too"])

    def test_again_and_again(self, bob, articles):
        """A page that is old stays old however often it is sent."""
        page = bob.open(LIST)
        meanwhile(articles[1], title="theirs")
        for _ in range(3):
            page = self.refused(bob, page, form_1_body="mine")
        assert stored()[1] == ("theirs", "old b")

    def test_no_more_once_the_lock_is_gone(self, alice, bob, articles):
        page = bob.open(LIST)
        token = lock_by(alice, articles[1])
        again = self.refused(bob, page, form_1_body="mine")
        LockableModel.unlock(articles[1], token)
        assert save(bob, again).status_code == 302
        assert stored()[1] == ("b", "mine")

    def test_shows_each_form_beside_its_own_row(self, bob, articles):
        """Also when the order of the list has changed meanwhile."""
        page = bob.open(LIST)
        meanwhile(articles[0], title="z")
        again = self.refused(bob, page, form_0_body="mine")
        changelist = again.context["cl"]
        pairs = zip(changelist.result_list, changelist.formset.forms, strict=True)
        assert all(row.pk == form.instance.pk for row, form in pairs)
        assert "<th" in text(again)

    @pytest.mark.parametrize("field", ["title", "body"])
    def test_a_changed_row_that_does_not_say_what_it_had_shown(self, bob, articles, field):
        page = bob.open(LIST)
        response = self.refused(bob, page, form_1_body="mine", without=[f"initial-form-1-{field}"])
        assert stored() == OLD
        assert row_errors(response)[1] == [f"{field.capitalize()} {STALE}"]

    def test_a_row_that_was_deleted(self, bob, articles):
        page = bob.open(LIST)
        with suspended(reason="somebody else's delete"):
            articles[1].delete()
        self.refused(bob, page, form_1_body="mine")
        assert stored() == [OLD[0], OLD[2]]

    def test_all_rows_when_the_lock_of_another_object_is_missing(self, bob, articles, settings):
        enforced = {**settings.LOCK_TOKENS["ENFORCED_MODELS"], "app.Story": {}}
        with suspended(reason="fixture"):
            story = Story.objects.create(slug="a")
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": enforced}
        page = bob.open("/meddling/app/article/")
        response = self.refused(bob, page, url="/meddling/app/article/", form_1_body="mine")
        assert stored() == OLD
        why = (
            f"Story {story.pk} was not saved, because you do not have it locked. "
            "Open it again to edit it."
        )
        assert response.context["cl"].formset.non_form_errors() == [why]
        assert fields_of(response)["form-1-body"] == ["mine"]
        assert not LockToken.objects.exists()


class TestFields:
    """Every kind of field tells what it had shown."""

    @pytest.fixture(autouse=True)
    def rule(self, settings, tmp_path):
        settings.ROOT_URLCONF = __name__
        settings.MEDIA_ROOT = tmp_path
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": {"app.Sheet": {}}}

    @pytest.fixture
    def sheets(self):
        sections = [Section.objects.create(name=name) for name in "ab"]
        with suspended(reason="fixture"):
            return [
                Sheet.objects.create(
                    title=" spaces and\nlines ",
                    price=Decimal("1234.50"),
                    at=datetime(2026, 11, 22, 9, 30, 15, 123456, tzinfo=timezone.utc),
                    data={"b": [1, "é"], "a": None},
                    file=ContentFile(b"x", name=f"{section.name}.txt"),
                    section=section,
                    number="12345678-1234-5678-1234-567812345678",
                )
                for section in sections
            ]

    URL = "/admin/app/sheet/"

    def test_that_was_not_touched_is_not_written(self, bob, sheets):
        before = list(Sheet.objects.values())
        response = save(bob, bob.open(self.URL), self.URL)
        assert told(response) == []
        assert list(Sheet.objects.values()) == before

    def test_is_not_taken_as_stale_beside_one_that_was(self, bob, sheets):
        response = save(bob, bob.open(self.URL), self.URL, form_0_views="7")
        assert response.status_code == 302
        assert told(response) == ["1 sheet was changed successfully."]
        # The latest is first.
        kept = Sheet.objects.get(pk=sheets[1].pk)
        assert (kept.views, kept.file.name, kept.section) == (7, "b.txt", sheets[1].section)

    @pytest.mark.parametrize(
        ("label", "values"),
        [
            ("Price", {"price": Decimal("1234.51")}),
            ("At", {"at": datetime(2026, 11, 22, 9, 30, 16, tzinfo=timezone.utc)}),
            ("At", {"at": None}),
            ("Data", {"data": {"b": [1, "e"], "a": None}}),
            ("File", {"file": "other.txt"}),
            ("Section", {"section": None}),
            ("Number", {"number": None}),
            ("Title", {"title": " spaces and\nlines"}),
        ],
    )
    def test_that_was_changed_meanwhile_is_seen(self, bob, sheets, label, values):
        page = bob.open(self.URL)
        with suspended(reason="somebody else's write"):
            Sheet.objects.filter(pk=sheets[1].pk).update(**values)
        response = save(bob, page, self.URL, form_0_views="7")
        assert response.status_code == 200
        assert row_errors(response)[0] == [f"{label} {STALE}"]


class TestProtectedByAnother:
    @pytest.fixture(autouse=True)
    def rule(self, settings):
        settings.ROOT_URLCONF = __name__
        settings.LOCK_TOKENS = {
            "ENFORCED_MODELS": {"app.Story": {}, "app.Correction": {"VIA": "story"}}
        }

    @pytest.fixture
    def story(self):
        with suspended(reason="fixture"):
            story = Story.objects.create(slug="a")
            Correction.objects.create(story=story)
        return story

    URL = "/admin/app/correction/"

    def test_rows_are_saved_under_a_claim_of_it(self, bob, story):
        response = save(bob, bob.open(self.URL), self.URL, form_0_text="new")
        assert response.status_code == 302
        assert stored(Correction, ["text"]) == [("new",)]
        assert not LockToken.objects.exists()

    def test_rows_are_refused_while_somebody_else_has_it(self, alice, bob, story):
        lock_by(alice, story)
        response = save(bob, bob.open(self.URL), self.URL, form_0_text="new")
        assert response.status_code == 200
        assert row_errors(response) == [[BY_ALICE]]
        assert stored(Correction, ["text"]) == [("old",)]
