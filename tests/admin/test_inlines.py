"""Inline rows: saved under short locks, refused while they are somebody else's or stale."""

from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from django.urls import include, path

from lock_tokens.admin import LockableModelAdmin
from lock_tokens.enforcement import suspended
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.sessions import get_session_key, lock_for_session
from tests.admin.browser import fields_of, told
from tests.app.models import Authorship, Correction, Person, Section, Shelf, Story

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]

RULES = {
    "rows enforced": {"app.Story": {}},
    "parent enforced": {"app.Section": {}},
    "both enforced": {"app.Story": {}, "app.Section": {}},
    "respect": {"app.Story": {"POLICY": "respect"}},
    "report only": {"app.Story": {"REPORT_ONLY": True}},
    "admin only": {},
}
BY_ALICE = "Locked by alice until Nov. 22, 2026, 2 p.m."
STALE = "has been changed since this page was opened. Open it afresh."

site = admin.AdminSite()
plain = admin.AdminSite("plain")


class StoryInline(admin.TabularInline):
    model = Story
    fields = ("slug", "title", "published")
    extra = 1


class CorrectionInline(admin.StackedInline):
    model = Correction
    extra = 0


class AuthorshipInline(admin.TabularInline):
    model = Authorship
    extra = 0


class SectionAdmin(LockableModelAdmin):
    inlines = [StoryInline]


class PlainSectionAdmin(admin.ModelAdmin):
    inlines = [StoryInline]


class StoryAdmin(LockableModelAdmin):
    fields = ("slug", "title")
    inlines = [CorrectionInline, AuthorshipInline]


class RawShelfAdmin(LockableModelAdmin):
    raw_id_fields = ["stories"]


site.register(Section, SectionAdmin)
site.register(Story, StoryAdmin)
site.register(Correction, LockableModelAdmin)
site.register(Shelf, LockableModelAdmin)
raw = admin.AdminSite("raw")
raw.register(Shelf, RawShelfAdmin)
plain.register(Section, PlainSectionAdmin)

urlpatterns = [
    path("admin/", site.urls),
    path("plain/", plain.urls),
    path("raw/", raw.urls),
    path("lock_tokens/", include("lock_tokens.urls")),
]


@pytest.fixture(autouse=True, params=RULES)
def rule(request, settings):
    settings.ROOT_URLCONF = __name__
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": RULES[request.param]}


@pytest.fixture
def section():
    with suspended(reason="fixture"):
        section = Section.objects.create(name="News")
        for slug in "abc":
            Story.objects.create(slug=slug, section=section)
    return section


@pytest.fixture
def stories(section):
    return list(Story.objects.order_by("pk"))


def lock_by(browser, obj):
    return LockableModel.lock(obj, by=browser.user, timeout=7200)["token"]


def meanwhile(story, **values):
    with suspended(reason="somebody else's write"):
        Story.objects.filter(pk=story.pk).update(**values)


def url(obj, at="admin"):
    return f"/{at}/app/{obj._meta.model_name}/{obj.pk}/change/"


def save(browser, page, typed, without=()):
    typed = {name: [value] for name, value in typed.items()}
    return browser.send(page, {**typed, "_save": ["Save"]}, without=without)


def titles():
    return list(Story.objects.order_by("pk").values_list("title", flat=True))


def errors(response, index=0):
    """Return the errors of an inline, and of each of its rows."""
    formset = response.context["inline_admin_formsets"][index].formset
    return formset.non_form_errors(), [form.non_field_errors() for form in formset.forms]


class TestSaving:
    def test_writes_the_rows_that_were_changed(self, bob, section, stories):
        response = save(bob, bob.open(url(section)), {"story_set-1-title": "new"})
        assert response.status_code == 302, errors(response)
        assert titles() == ["old", "new", "old"]
        assert not LockToken.objects.exists()

    def test_writes_the_parent_and_new_rows_too(self, bob, section, stories):
        typed = {"name": "Sport", "story_set-3-slug": "d", "story_set-3-title": "added"}
        response = save(bob, bob.open(url(section)), typed)
        assert response.status_code == 302, errors(response)
        assert titles() == ["old", "old", "old", "added"]
        assert Section.objects.get().name == "Sport"

    def test_deletes_rows(self, bob, section, stories):
        response = save(bob, bob.open(url(section)), {"story_set-1-DELETE": "on"})
        assert response.status_code == 302, errors(response)
        assert list(Story.objects.order_by("pk")) == [stories[0], stories[2]]
        assert not LockToken.objects.exists()

    def test_leaves_alone_what_others_changed_in_rows_that_were_not(self, bob, section, stories):
        page = bob.open(url(section))
        meanwhile(stories[0], title="theirs")
        save(bob, page, {"story_set-1-title": "new"})
        assert titles() == ["theirs", "new", "old"]

    def test_loses_that_without_the_mixin(self, bob, section, stories, settings):
        """The negative control."""
        settings.LOCK_TOKENS = {}
        page = bob.open(url(section, "plain"))
        meanwhile(stories[0], title="theirs")
        save(bob, page, {"story_set-1-title": "new"})
        assert titles() == ["old", "new", "old"]

    def test_leaves_alone_what_others_changed_in_fields_that_are_not_shown(
        self, bob, section, stories
    ):
        page = bob.open(url(section))
        meanwhile(stories[1], views=7)
        save(bob, page, {"story_set-1-title": "new"})
        assert Story.objects.get(slug="b").views == 7

    def test_keeps_a_row_locked_by_somebody_else_that_was_not_changed(
        self, alice, bob, section, stories
    ):
        token = lock_by(alice, stories[0])
        response = save(bob, bob.open(url(section)), {"story_set-1-title": "new"})
        assert response.status_code == 302, errors(response)
        assert LockableModel.check_lock(stories[0], token)

    def test_makes_an_expired_lock_of_a_row_stale(self, alice, bob, section, stories, noon):
        lock_by(alice, stories[1])
        noon.tick(timedelta(hours=2))
        save(bob, bob.open(url(section)), {"story_set-1-title": "new"})
        assert titles() == ["old", "new", "old"]
        assert not LockToken.objects.exists()

    def test_again_with_save_and_continue(self, bob, section, stories):
        page = bob.open(url(section))
        typed = {"story_set-1-title": ["new"], "_continue": ["Save and continue"]}
        page = bob.open(bob.send(page, typed).url)
        response = save(bob, page, {"story_set-1-title": "newer"})
        assert response.status_code == 302, errors(response)
        assert titles() == ["old", "newer", "old"]

    def test_of_a_new_parent(self, bob):
        page = bob.open("/admin/app/section/add/")
        typed = {"name": "Sport", "story_set-0-slug": "d", "story_set-0-title": "added"}
        response = save(bob, page, typed)
        assert response.status_code == 302, errors(response)
        assert titles() == ["added"]

    def test_costs_the_same_for_few_rows_and_many(self, bob, count_statements):
        for model in (Section, Story):
            ContentType.objects.get_for_model(model)
        with suspended(reason="fixture"):
            few, many = (Section.objects.create(name=name) for name in "ab")
            for section, size in ((few, 2), (many, 20)):
                for n in range(size):
                    Story.objects.create(slug=f"{section.name}{n}", section=section)

        def cost(section, size):
            page = bob.open(url(section))
            typed = {f"story_set-{n}-title": "new" for n in range(size)}
            cost = count_statements(lambda: save(bob, page, typed))
            assert set(Story.objects.filter(section=section).values_list("title")) == {("new",)}
            return cost

        # What Django asks and writes for each row: its foreign key, its slug, and the update.
        each = cost(few, 2), cost(many, 20)
        assert (each[1] - each[0]) % 18 == 0
        assert (each[1] - each[0]) / 18 <= 4


class TestRefusing:
    def refused(self, browser, page, typed, **options):
        response = save(browser, page, typed, **options)
        assert response.status_code == 200
        return response

    def test_a_row_that_somebody_else_has_locked(self, alice, bob, section, stories):
        page = bob.open(url(section))
        lock_by(alice, stories[1])
        typed = {"name": "Sport", "story_set-0-title": "mine", "story_set-1-title": "mine too"}
        response = self.refused(bob, page, typed)
        assert titles() == ["old"] * 3
        assert Section.objects.get().name == "News"
        assert errors(response) == ([], [[], [BY_ALICE], [], []])
        fields = fields_of(response)
        assert {name: fields[name] for name in typed} == {n: [v] for n, v in typed.items()}

    def test_a_row_that_is_stale(self, bob, section, stories):
        page = bob.open(url(section))
        meanwhile(stories[1], title="theirs")
        response = self.refused(bob, page, {"story_set-1-title": "mine"})
        assert titles() == ["old", "theirs", "old"]
        assert errors(response) == ([], [[], [f"Title {STALE}"], [], []])

    def test_a_stale_row_is_lost_without_the_mixin(self, bob, section, stories, settings):
        """The negative control."""
        settings.LOCK_TOKENS = {}
        page = bob.open(url(section, "plain"))
        meanwhile(stories[1], title="theirs")
        save(bob, page, {"story_set-1-title": "mine"})
        assert titles() == ["old", "mine", "old"]

    def test_to_delete_a_row_that_somebody_else_has_locked(self, alice, bob, section, stories):
        page = bob.open(url(section))
        lock_by(alice, stories[1])
        response = self.refused(bob, page, {"story_set-1-DELETE": "on"})
        assert Story.objects.count() == 3
        name = f"story “{stories[1]}”"
        assert errors(response) == ([f"{name}: {BY_ALICE}"], [[], [BY_ALICE], [], []])

    def test_to_delete_a_row_that_is_stale(self, bob, section, stories):
        page = bob.open(url(section))
        meanwhile(stories[1], title="theirs")
        response = self.refused(bob, page, {"story_set-1-DELETE": "on"})
        assert Story.objects.count() == 3
        assert errors(response)[0] == [f"story “{stories[1]}”: Title {STALE}"]

    def test_a_row_that_does_not_say_what_it_had_shown(self, bob, section, stories):
        page = bob.open(url(section))
        without = ["initial-story_set-1-published"]
        response = self.refused(bob, page, {"story_set-1-title": "mine"}, without=without)
        assert titles() == ["old"] * 3
        assert errors(response)[1][1] == [f"Published {STALE}"]

    def test_keeps_the_lock_of_the_page(self, alice, bob, section, stories):
        """What was refused can be saved once the row is free."""
        page = bob.open(url(section))
        token = lock_by(alice, stories[1])
        again = self.refused(bob, page, {"story_set-1-title": "mine"})
        LockableModel.unlock(stories[1], token)
        response = save(bob, again, {})
        assert response.status_code == 302, errors(response)
        assert titles() == ["old", "mine", "old"]

    def test_leaves_no_short_lock(self, alice, bob, section, stories):
        page = bob.open(url(section))
        lock_by(alice, stories[1])
        self.refused(bob, page, {"story_set-0-title": "mine", "story_set-1-title": "mine"})
        locked = set(LockToken.objects.values_list("locked_object_id", flat=True))
        assert locked == {str(stories[1].pk), str(section.pk)}


class TestProtectedByTheParent:
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
            Authorship.objects.create(story=story, person=Person.objects.create(name="a"))
        return story

    def test_rows_are_written_under_its_lock_which_ends(self, bob, story):
        page = bob.open(url(story))
        typed = {"correction_set-0-text": "new", "authorship_set-0-share": "50"}
        response = save(bob, page, typed)
        assert response.status_code == 302, errors(response)
        assert Correction.objects.get().text == "new"
        assert Authorship.objects.get().share == 50
        assert not LockToken.objects.exists()
        assert bob.token(story) is None

    def test_rows_are_deleted_under_its_lock(self, bob, story):
        page = bob.open(url(story))
        typed = {"correction_set-0-DELETE": "on", "authorship_set-0-DELETE": "on"}
        response = save(bob, page, typed)
        assert response.status_code == 302, errors(response)
        assert not Correction.objects.exists()
        assert not Authorship.objects.exists()

    def test_rows_are_not_written_from_a_page_whose_lock_is_stale(self, alice, bob, story, noon):
        page = bob.open(url(story))
        noon.tick(timedelta(hours=2))
        lock_by(alice, story)
        response = save(bob, page, {"correction_set-0-text": "new"})
        assert response.status_code in (200, 403)
        assert Correction.objects.get().text == "old"


class TestNewTies:
    """What is saved may be tied to objects that nobody opened."""

    @pytest.fixture(autouse=True)
    def rule(self, settings):
        settings.ROOT_URLCONF = __name__
        settings.LOCK_TOKENS = {
            "ENFORCED_MODELS": {"app.Story": {}, "app.Correction": {"VIA": "story"}}
        }

    ADD = "/admin/app/correction/add/"

    def refusal(self, story):
        return (
            f"Story {story.pk} was not saved, because it is locked. "
            "Locked since Nov. 22, 2026, noon until Nov. 22, 2026, 2 p.m. by alice."
        )

    def test_a_row_is_added_under_a_claim_of_what_will_protect_it(self, bob, stories):
        response = save(bob, bob.open(self.ADD), {"story": stories[0].pk, "text": "new"})
        assert response.status_code == 302
        assert Correction.objects.get().story == stories[0]
        assert not LockToken.objects.exists()

    def test_a_row_is_not_added_to_what_somebody_else_has_locked(self, alice, bob, stories):
        token = lock_by(alice, stories[0])
        response = save(bob, bob.open(self.ADD), {"story": stories[0].pk, "text": "new"})
        assert response.status_code == 200
        assert not Correction.objects.exists()
        assert self.refusal(stories[0]) in str(response.context["errors"])
        assert fields_of(response)["text"] == ["new"]
        assert LockableModel.check_lock(stories[0], token)

    @pytest.mark.parametrize(
        ("at", "value"),
        [("admin", lambda pks: pks), ("raw", lambda pks: [",".join(map(str, pks))])],
        ids=["many-to-many", "raw id"],
    )
    def test_a_relation_is_changed_unless_an_end_is_locked(self, at, value, alice, bob, stories):
        with suspended(reason="fixture"):
            shelf = Shelf.objects.create()
            shelf.stories.set(stories[:2])

        def relate(*some):
            page = bob.open(url(shelf, at))
            typed = {"stories": value([story.pk for story in some]), "_save": ["Save"]}
            return bob.send(page, typed)

        assert relate(stories[1], stories[2]).status_code == 302
        assert set(shelf.stories.all()) == {stories[1], stories[2]}
        assert not LockToken.objects.exists()
        # It stays where it was.
        lock_by(alice, stories[1])
        assert relate(stories[1]).status_code == 302
        assert set(shelf.stories.all()) == {stories[1]}
        response = relate(stories[2])
        assert response.status_code == 200
        assert self.refusal(stories[1]) in str(response.context["errors"])
        assert set(shelf.stories.all()) == {stories[1]}


def test_a_row_open_in_another_tab_of_the_session_is_told_apart(bob, section, stories):
    """The form brings its own token, so the session does not speak for the row."""
    session = bob.client.session
    lock_for_session(stories[1], session, timeout=7200)
    session.save()
    page = bob.open(url(section))
    response = save(bob, page, {"story_set-1-title": "mine"})
    assert response.status_code == 200
    assert errors(response)[1][1] == ["Locked by bob until Nov. 22, 2026, 2 p.m."]
    assert bob.token(stories[1]) == session[get_session_key(stories[1])]
    assert told(response) == []
