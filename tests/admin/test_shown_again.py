"""Rows that are shown again carry along what they had shown at first, not what was typed."""

from datetime import datetime, timedelta, timezone

import pytest
from django.contrib import admin
from django.urls import include, path

from lock_tokens.admin import LockableModelAdmin
from lock_tokens.enforcement import suspended
from tests.admin.browser import fields_of, told
from tests.app.models import Section, Sheet, Story, Tag

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]

site = admin.AdminSite()
utc = timezone.utc
LIST = "/admin/app/sheet/"


class SheetAdmin(LockableModelAdmin):
    list_display = ("id", "views", "at")
    list_editable = ("views", "at")
    ordering = ("pk",)


class StoryInline(admin.TabularInline):
    model = Story
    fields = ("slug", "views", "tags")
    extra = 0


class SectionAdmin(LockableModelAdmin):
    inlines = (StoryInline,)


site.register(Sheet, SheetAdmin)
site.register(Section, SectionAdmin)
site.register(Tag)
urlpatterns = [
    path("admin/", site.urls),
    path("lock_tokens/", include("lock_tokens.urls")),
]


@pytest.fixture(autouse=True, params=[{}, {"app.Sheet": {}, "app.Story": {}, "app.Section": {}}])
def rule(request, settings):
    settings.ROOT_URLCONF = __name__
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": request.param}


def test_a_moment_that_was_typed_is_saved_after_an_error_in_another_row(bob):
    before, typed = datetime(2026, 11, 22, 9, tzinfo=utc), datetime(2026, 12, 24, 18, tzinfo=utc)
    with suspended(reason="fixture"):
        for _ in range(2):
            Sheet.objects.create(at=before)
    fields = {"form-0-at_0": ["2026-12-24"], "form-0-at_1": ["18:00"], "form-1-views": ["many"]}
    again = bob.send(bob.open(LIST), {**fields, "_save": ["Save"]})
    assert again.status_code == 200
    response = bob.send(again, {"form-1-views": ["7"], "_save": ["Save"]}, url=LIST)
    assert told(response) == ["2 sheets were changed successfully."]
    assert [sheet.at for sheet in Sheet.objects.order_by("pk")] == [typed, before]


@pytest.mark.parametrize("some", [0, 1])
def test_what_was_related_is_saved_after_an_error_in_another_field(some, bob):
    with suspended(reason="fixture"):
        section = Section.objects.create(name="News")
        story = Story.objects.create(slug="a", section=section)
        tags = [Tag.objects.create(name=name) for name in "ab"]
        story.tags.set(tags[:some])
    url = f"/admin/app/section/{section.pk}/change/"
    typed = {"story_set-0-tags": [str(tags[1].pk)], "name": [""], "_save": ["Save"]}
    again = bob.send(bob.open(url), typed)
    assert again.status_code == 200
    response = bob.send(again, {"name": ["Sport"], "_save": ["Save"]}, url=url)
    assert response.status_code == 302
    assert list(story.tags.all()) == tags[1:]


@pytest.fixture
def section():
    with suspended(reason="fixture"):
        section = Section.objects.create(name="News")
        tag = Tag.objects.create(name="a")
        for slug in "ab":
            Story.objects.create(slug=slug, section=section).tags.add(tag)
    return section


@pytest.fixture
def url(section):
    return f"/admin/app/section/{section.pk}/change/"


def views():
    return list(Story.objects.order_by("slug").values_list("views", flat=True))


def test_what_was_typed_stays_where_a_row_before_it_was_deleted_meanwhile(bob, url):
    page = bob.open(url)
    with suspended(reason="somebody else's delete"):
        Story.objects.get(slug="a").delete()
    again = bob.send(page, {"story_set-1-views": ["7"], "_save": ["Save"]})
    assert again.status_code == 200
    rows = again.context["inline_admin_formsets"][0].formset.forms
    gone = "Somebody has deleted this since the page was opened."
    assert [form.non_field_errors() for form in rows] == [[gone], []]
    assert fields_of(again)["story_set-1-views"] == ["7"]
    response = bob.send(again, {"story_set-0-DELETE": ["on"], "_save": ["Save"]}, url=url)
    assert response.status_code == 302
    assert views() == [7]


@pytest.fixture
def refused(alice, bob, url, noon):
    """Bob's page that was refused, because alice has saved since his lock ended."""
    page = bob.open(url)
    noon.tick(timedelta(hours=2))
    response = alice.send(alice.open(url), {"story_set-0-views": ["1"], "_save": ["Save"]})
    assert response.status_code == 302
    refused = bob.send(page, {"story_set-0-views": ["7"], "_save": ["Save"]})
    assert (refused.status_code, views()) == (200, [1, 0])
    return refused


def test_a_refused_form_saves_its_rows_after_a_look(bob, section, url, refused):
    """What is stored was shown beside them; so it is what their page has shown from then on."""
    typed = {"lock_token": [bob.token(section)], "_save": ["Save"]}
    assert bob.send(refused, typed, url=url).status_code == 302
    assert views() == [7, 0]


def test_a_refused_form_does_not_overwrite_what_changed_after_it_was_shown(
    bob, section, url, refused
):
    with suspended(reason="somebody else's write"):
        Story.objects.filter(slug="a").update(views=2)
    typed = {"lock_token": [bob.token(section)], "_save": ["Save"]}
    assert bob.send(refused, typed, url=url).status_code == 200
    assert views() == [2, 0]
