"""REPORT_ONLY refuses nothing: every write that would be refused is logged and announced."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections, transaction
from django.db.models import F, QuerySet
from django.db.models.signals import pre_save
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import include, path
from django.views.generic import UpdateView
from freezegun import freeze_time
from rest_framework import routers, serializers, viewsets

from lock_tokens.enforcement import holding, locked, suspended
from lock_tokens.exceptions import LockRequired, ObjectLocked, StaleToken
from lock_tokens.models import LockableModel
from lock_tokens.signals import write_refused
from lock_tokens.targets import target_of
from lock_tokens.testing import hold_lock
from tests.app.models import Correction, Place, Restaurant, Section, Sheet, Story, Tag
from tests.enforcement.roads import ENFORCED, World, all_roads, clear, snapshot

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def report_only(settings):
    models = {label: {**options, "REPORT_ONLY": True} for label, options in ENFORCED.items()}
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": models}


@pytest.fixture
def heard():
    """The refusals that were announced."""
    found = []

    def listen(signal, **kwargs):
        found.append(kwargs)

    write_refused.connect(listen)
    yield found
    write_refused.disconnect(listen)


@pytest.fixture
def logged(caplog):
    """Return the lines that the package logged, and forget them."""

    def take():
        lines = [r.getMessage() for r in caplog.records if r.name == "lock_tokens"]
        assert {r.levelno for r in caplog.records if r.name == "lock_tokens"} <= {logging.WARNING}
        caplog.clear()
        return lines

    return take


def identity(kwargs):
    return kwargs["sender"], kwargs["pk"]


def line_of(text):
    """Return the place of the line of this file that ends with the comment ``text``."""
    lines = Path(__file__).read_text().splitlines()
    (number,) = (n for n, line in enumerate(lines, start=1) if line.endswith(f"  # {text}"))
    return f"{__file__}:{number}"


@pytest.fixture
def story():
    return Story.objects.create(slug="a")


# Every road -----------------------------------------------------------------------------------


def test_every_road_is_open_and_tells_each_object_whose_lock_it_lacks(subtests, heard, logged):
    for road in all_roads():
        with subtests.test(str(road)):
            clear()
            with suspended(reason="fixture"), transaction.atomic():
                world = World()
            before = snapshot()
            heard.clear()
            logged()
            road.take(world)
            assert snapshot() != before
            needed = {target_of(world.rows[name]) for name in road.needs}
            assert {identity(each) for each in heard} == {(t.model, t.pk) for t in needed}
            assert 1 <= len(logged()) <= len(heard)


def test_no_road_says_anything_with_the_tokens(subtests, heard, logged):
    for road in all_roads():
        with subtests.test(str(road)):
            clear()
            with suspended(reason="fixture"), transaction.atomic():
                world = World()
            with locked(*(world.rows[name] for name in road.needs)):
                road.take(world)
            assert heard == logged() == []


# Once -----------------------------------------------------------------------------------------


def save_story(story):
    story.title = "new"
    story.save()  # the save of a story


def upsert(story):
    stories = [Story(pk=story.pk, slug=story.slug, title="new")]
    options = {"update_conflicts": True, "update_fields": ["title"], "unique_fields": ["pk"]}
    Story.objects.bulk_create(stories, **options)


WRITES = {
    "save": save_story,
    "asave": lambda story: async_to_sync(story.asave)(),
    "save(update_fields)": lambda story: story.save(update_fields=["title"]),
    "save of a child": lambda story: Restaurant.objects.get().save(),
    "delete": lambda story: story.delete(),
    "update": lambda story: Story.objects.update(title="new"),
    "bulk_update": lambda story: Story.objects.bulk_update([story], ["title"]),
    "upsert": upsert,
    "queryset delete": lambda story: Story.objects.all().delete(),
    "m2m add": lambda story: story.tags.add(Tag.objects.create(name="b")),
    "m2m remove": lambda story: story.tags.remove(Tag.objects.get()),
    "m2m clear": lambda story: story.tags.clear(),
    "reverse add": lambda story: Section.objects.create(name="b").story_set.add(story),
    "cascade": lambda story: Section.objects.get().delete(),
    "via": lambda story: Correction.objects.get().save(),
    "via delete": lambda story: Correction.objects.get().delete(),
    "via create": lambda story: Correction.objects.create(story=story),
    "via bulk_create": lambda story: Correction.objects.bulk_create([Correction(story=story)] * 2),
}

if connections["default"].vendor == "mysql":
    # The slug is unique, so MariaDB may overwrite a row that is not known.
    del WRITES["upsert"]


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_write_of_one_object_is_told_once(write, heard, logged):
    with suspended(reason="fixture"):
        story = Story.objects.create(slug="a", section=Section.objects.create(name="a"))
        story.tags.add(Tag.objects.create(name="a"))
        Correction.objects.create(story=story)
        place = Restaurant.objects.create(name="old")
    write(story)
    (told,) = heard
    obj = place.place_ptr if told["sender"] is Place else Story(pk=identity(told)[1])
    assert identity(told) == (type(obj), obj.pk)
    (line,) = logged()
    label = f"{obj._meta.label} {obj.pk}"
    assert line.startswith(f"LockRequired: {label} (report only), by {__file__}:")


def test_a_bulk_write_is_one_line_that_names_ten_and_counts_the_rest(heard, logged):
    stories = [Story(slug=f"s{number}") for number in range(12)]
    Story.objects.bulk_create(stories)
    keys = list(Story.objects.order_by("pk").values_list("pk", flat=True))
    Story.objects.update(title="new")  # the bulk write
    assert sorted(each["pk"] for each in heard) == keys
    (line,) = logged()
    names, _, rest = line.removeprefix("LockRequired: ").partition(" and ")
    assert len({*names.split(", ")}) == 10
    assert {*names.split(", ")} <= {f"app.Story {pk}" for pk in keys}
    assert rest == f"2 more (report only), by {line_of('the bulk write')}"


def test_a_bulk_write_of_two_names_both(story, heard, logged):
    other = Story.objects.create(slug="b")
    Story.objects.order_by("pk").delete()  # the delete of both
    names = [f"app.Story {story.pk}", f"app.Story {other.pk}"]
    (line,) = logged()
    assert line in {
        f"LockRequired: {', '.join(both)} (report only), by {line_of('the delete of both')}"
        for both in (names, names[::-1])
    }


def test_a_write_within_a_write_is_told_by_itself(story, heard, logged):
    place = Place.objects.create(name="old")

    def save_place(**kwargs):
        place.save()

    pre_save.connect(save_place, sender=Story)
    try:
        story.save()
    finally:
        pre_save.disconnect(save_place, sender=Story)
    assert [identity(each) for each in heard] == [(Story, story.pk), (Place, place.pk)]
    assert len(logged()) == 2


def test_creating_is_not_told(heard, logged):
    Story.objects.create(slug="a")
    Story.objects.get_or_create(slug="b")
    Story.objects.bulk_create([Story(slug="c")])
    Correction.objects.create()
    assert heard == logged() == []


# What is told ---------------------------------------------------------------------------------


def test_all_that_is_known_is_told(story, heard):
    save_story(story)
    (told,) = heard
    error = told.pop("error")
    assert told.pop("sender") is Story
    assert told == {
        "pk": story.pk,
        "using": "default",
        "lock": None,
        "reason": "LockRequired",
        "request": None,
        "path": None,
        "caller": told["caller"],
    }
    assert (type(error), error.model_label, error.pk) == (LockRequired, "app.Story", story.pk)
    assert str(error) == (
        f"app.Story {story.pk} was not written: lock it first and present the token "
        "(header, form field, session or lock_tokens.enforcement.locked)."
    )


@freeze_time("2026-05-01 12:00")
def test_the_reason_is_the_error_that_it_would_be(story, heard, logged):
    noon = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
    with hold_lock(story):
        story.save()
    token = LockableModel.lock(story)["token"]
    LockableModel.unlock(story, token)
    with holding(token):
        story.save()
    story.save()
    reasons = ["ObjectLocked", "StaleToken", "LockRequired"]
    assert [each["reason"] for each in heard] == reasons
    assert [line.partition(":")[0] for line in logged()] == reasons
    assert [type(each["error"]) for each in heard] == [ObjectLocked, StaleToken, LockRequired]
    assert heard[0]["lock"].until == noon + timedelta(hours=1)


def test_a_row_is_told_as_the_object_whose_lock_it_lacks(story, heard):
    correction = Correction.objects.create(story=story)
    heard.clear()
    correction.save()
    (told,) = heard
    assert identity(told) == (Story, story.pk)
    assert str(told["error"]).startswith(
        f"app.Correction {correction.pk} is protected by the lock of app.Story {story.pk}. "
        f"app.Story {story.pk} was not written: "
    )


def test_no_token_is_told(story, heard, caplog):
    valid = LockableModel.lock(story)["token"]
    stale = "f" * 32
    with holding(stale):
        story.save()
        Story.objects.update(title="new")
    said = caplog.text + "".join(
        f"{each!r} {each['error']} {vars(each['error'])}" for each in heard
    )
    assert len(heard) == 2
    assert valid not in said
    assert stale not in said


def test_a_listener_that_raises_does_not_stop_the_write(story, logged):
    def fail(**kwargs):
        raise RuntimeError

    write_refused.connect(fail)
    try:
        save_story(story)
    finally:
        write_refused.disconnect(fail)
    assert QuerySet(Story).get().title == "new"


# Who asked ------------------------------------------------------------------------------------


def by_save(story):
    story.save()  # by save


def by_update(story):
    Story.objects.filter(pk=story.pk).update(title="new")  # by update


def by_a_related_manager(story):
    story.tags.set([Tag.objects.create(name="a")])  # by a related manager


def by_delete(story):
    story.delete()  # by delete


def by_update_or_create(story):
    Story.objects.update_or_create(slug="a", defaults={"title": "new"})  # by update_or_create


def by_asave(story):
    async def write():
        await story.asave()  # by asave

    async_to_sync(write)()


def by_aupdate(story):
    async def write():
        await Story.objects.aupdate(title="new")  # by aupdate

    async def call():
        await asyncio.gather(asyncio.sleep(0), write())

    async_to_sync(call)()


def by_sync_to_async(story):
    async def write():
        await sync_to_async(by_save)(story)

    async_to_sync(write)()


def by_a_method_called_from_sync_code(story):
    async_to_sync(story.asave)()  # by a method called from sync code


PLACES = {
    "by save": by_save,
    "by update": by_update,
    "by a related manager": by_a_related_manager,
    "by delete": by_delete,
    "by update_or_create": by_update_or_create,
    "by asave": by_asave,
    "by aupdate": by_aupdate,
    "by a method called from sync code": by_a_method_called_from_sync_code,
}


@pytest.mark.parametrize("name", PLACES)
def test_the_caller_is_the_line_of_the_project_that_wrote(story, heard, logged, name):
    PLACES[name](story)
    assert {each["caller"] for each in heard} == {line_of(name)}
    assert all(line.endswith(f" (report only), by {line_of(name)}") for line in logged())


def test_the_caller_is_the_innermost_function(story, heard):
    by_sync_to_async(story)
    assert heard[0]["caller"] == line_of("by save")


@pytest.mark.django_db(transaction=True)
def test_a_write_that_a_thread_was_given_as_it_is_has_no_caller(story, heard, logged):
    def close_and_save():
        story.save()
        connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(story.save).result()
        pool.submit(connections.close_all).result()
        pool.submit(close_and_save).result()
    assert heard[0]["caller"] is None
    assert heard[1]["caller"].startswith(f"{__file__}:")
    assert logged()[0] == f"LockRequired: app.Story {story.pk} (report only)"


def view(request, pk):
    save_story(Story.objects.get(pk=pk))
    return HttpResponse("saved")


async def async_view(request, pk):
    story = await Story.objects.aget(pk=pk)
    await story.asave()  # in an async view
    return HttpResponse("saved")


class GenericView(UpdateView):
    model = Story
    fields = ["title"]
    success_url = "/"


class OwnView(GenericView):
    def form_valid(self, form):
        return super().form_valid(form)  # in a view of the project


class Serializer(serializers.ModelSerializer):
    class Meta:
        model = Story
        fields = ["title"]


class GenericViewSet(viewsets.ModelViewSet):
    queryset = Story.objects.all()
    serializer_class = Serializer


class OwnSerializer(Serializer):
    def update(self, instance, validated_data):
        return super().update(instance, validated_data)  # in a serializer of the project


class OwnViewSet(GenericViewSet):
    serializer_class = OwnSerializer


router = routers.SimpleRouter()
router.register("generic", GenericViewSet, basename="generic")
router.register("own", OwnViewSet, basename="own")

urlpatterns = [
    path("function/<int:pk>/", view),
    path("async/<int:pk>/", async_view),
    path("class/<int:pk>/", GenericView.as_view()),
    path("own-class/<int:pk>/", OwnView.as_view()),
    path("api/", include(router.urls)),
]


@pytest.fixture
def urls(settings):
    settings.ROOT_URLCONF = __name__


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("/function/{}/", "the save of a story"),
        ("/async/{}/", "in an async view"),
        ("/class/{}/", None),
        ("/own-class/{}/", "in a view of the project"),
    ],
)
@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_in_a_request_its_path_is_told_and_the_line_if_it_is_the_projects(
    story, heard, logged, urls, url, name, client
):
    url = url.format(story.pk)
    post = client().post if client is Client else async_to_sync(AsyncClient().post)
    assert post(url, {"title": "new"}).status_code in {200, 302}
    (told,) = heard
    assert (told["path"], told["request"].path) == (url, url)
    assert told["caller"] == (name and line_of(name))
    by = f", by {line_of(name)}" if name else ""
    line = f"LockRequired: app.Story {story.pk} (report only){by}, request {url}"
    assert logged() == [line]


@pytest.mark.parametrize(
    ("url", "name"),
    [("/api/generic/{}/", None), ("/api/own/{}/", "in a serializer of the project")],
)
def test_through_the_rest_framework_too(story, heard, urls, url, name):
    url = url.format(story.pk)
    response = Client().put(url, {"title": "new"}, content_type="application/json")
    assert response.status_code == 200
    (told,) = heard
    assert (told["path"], told["caller"]) == (url, name and line_of(name))


# Some report only, some refuse ----------------------------------------------------------------


class TestBoth:
    """A story is refused, a sheet is only reported."""

    @pytest.fixture(autouse=True)
    def mixed(self, settings):
        models = {
            "app.Story": {},
            "app.Correction": {"VIA": "story", "REPORT_ONLY": True},
            "app.Sheet": {"REPORT_ONLY": True},
            "app.Place": {},
            "app.Restaurant": {"REPORT_ONLY": True},
        }
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": models}

    @pytest.fixture
    def section(self):
        """A section, the deletion of which deletes a story and a sheet."""
        section = Section.objects.create(name="a")
        Story.objects.create(slug="a", section=section)
        Sheet.objects.create(section=section)
        return section

    def test_where_one_is_refused_nothing_is_written(self, section, heard, logged):
        story, sheet = Story.objects.get(), Sheet.objects.get()
        with pytest.raises(LockRequired) as caught:
            section.delete()  # a write of both
        assert (caught.value.model_label, caught.value.pk) == ("app.Story", story.pk)
        assert QuerySet(Story).exists()
        assert QuerySet(Sheet).exists()
        assert {identity(each) for each in heard} == {(Story, story.pk), (Sheet, sheet.pk)}
        by = f"by {line_of('a write of both')}"
        assert logged() == [
            f"LockRequired: app.Sheet {sheet.pk} (report only), {by}",
            f"LockRequired: app.Story {story.pk}, {by}",
        ]

    def test_where_none_is_refused_all_is_written(self, section, heard):
        sheet = Sheet.objects.get()
        with locked(Story.objects.get()):
            section.delete()
        assert not QuerySet(Story).exists()
        assert not QuerySet(Sheet).exists()
        assert [identity(each) for each in heard] == [(Sheet, sheet.pk)]

    def test_a_row_that_is_only_reported_does_not_open_what_protects_it(self, story, heard):
        correction = Correction.objects.create(story=story)
        correction.save()
        with pytest.raises(LockRequired):
            story.save()
        with pytest.raises(LockRequired):
            story.delete()
        assert [each["reason"] for each in heard] == ["LockRequired"] * 4

    def test_an_object_under_both_is_refused(self):
        restaurant = Restaurant.objects.create(name="old")
        with pytest.raises(LockRequired):
            restaurant.save()
        with pytest.raises(LockRequired):
            Place.objects.get().save()


# What cannot be known -------------------------------------------------------------------------


def test_a_new_foreign_key_that_is_an_expression_is_not_refused_either(story, heard, logged):
    correction = Correction.objects.create(story=story)
    heard.clear()
    logged()
    Correction.objects.update(story_id=F("story_id") + 0)  # by an expression
    assert QuerySet(Correction).get().story_id == story.pk
    (unknown, known) = heard
    assert (identity(unknown), identity(known)) == ((Correction, None), (Story, story.pk))
    assert str(unknown["error"]) == (
        "A row of app.Correction was not written: story_id is an expression, so it cannot be "
        "known whose lock protects the row afterwards; assign the object itself."
    )
    by = f"(report only), by {line_of('by an expression')}"
    told = [f"LockRequired: app.Correction {by}", f"LockRequired: app.Story {story.pk} {by}"]
    assert logged() == told
    correction.story_id = F("story_id") + 0
    correction.save()
    assert QuerySet(Correction).get().story_id == story.pk


def test_an_upsert_that_may_hit_any_row_is_not_refused_either(story, heard, logged):
    Story.objects.bulk_create(
        [Story(slug="a", title="new"), Story(slug="b", title="new")],
        update_conflicts=True,
        update_fields=["title"],
        **({} if connections["default"].vendor == "mysql" else {"unique_fields": ["slug"]}),
    )
    assert [(*identity(each), each["reason"]) for each in heard] == [(Story, None, "WriteRefused")]
    (line,) = logged()
    assert line.startswith(f"WriteRefused: app.Story (report only), by {__file__}:")
    assert QuerySet(Story).get(pk=story.pk).title == "new"


def test_a_write_that_is_refused_in_earnest_is_told_by_its_line_too(story, settings, logged):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": {"app.Story": {}}}
    with pytest.raises(LockRequired):
        story.delete()  # in earnest
    assert logged() == [f"LockRequired: app.Story {story.pk}, by {line_of('in earnest')}"]


def test_a_receiver_that_moves_the_row_is_told_and_not_refused(settings, heard, story):
    settings.LOCK_TOKENS = {
        "ENFORCED_MODELS": {"app.Correction": {"REPORT_ONLY": True, "VIA": "story"}}
    }
    other = Story.objects.create(slug="other")

    def move(instance, **kwargs):
        instance.story = other

    pre_save.connect(move, sender=Correction)
    try:
        Correction(story=story).save()
    finally:
        pre_save.disconnect(move, sender=Correction)
    assert Correction.objects.filter(story=other).exists()
    assert "a receiver of pre_save changed its key" in str(heard[-1]["error"])
