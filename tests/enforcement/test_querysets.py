"""Bulk writes ask the guard once, and the querysets and managers stay what they were."""

import copy
import os
import pickle
import subprocess
import sys
from contextlib import nullcontext
from datetime import datetime, timedelta, timezone
from functools import partial
from uuid import UUID

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, GroupManager, UserManager
from django.db import NotSupportedError, connection, models, transaction
from django.db.migrations.state import ModelState
from django.db.models import Count, F, Prefetch, Value
from django.db.models.functions import Concat, Upper
from django.db.models.options import Options
from django.db.models.signals import post_delete, pre_delete, pre_save

from lock_tokens.enforcement import guard, holding, locked, receivers, subjects, suspended
from lock_tokens.exceptions import (
    LockRequired,
    ObjectLocked,
    StaleToken,
    WriteRefused,
    refusal_of_many,
)
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.testing import hold_lock
from tests.app.models import (
    Article,
    Box,
    Cafe,
    Correction,
    Dated,
    DraftManager,
    Folder,
    FolderManager,
    FolderProxy,
    Line,
    Museum,
    Person,
    Photo,
    Place,
    Reply,
    Restaurant,
    Section,
    Shop,
    Slug,
    Story,
    StoryManager,
    StoryProxy,
    StoryQuerySet,
    Tag,
    Uuid,
)

ENFORCED = {
    "app.Story": {"EXEMPT_FIELDS": ["views"]},
    "app.Correction": {"VIA": "story"},
    "app.Reply": {"VIA": "correction.story"},
}

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def enforced(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ENFORCED}


@pytest.fixture
def enforce(settings):
    def enforce(*labels, **more):
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": {**{key: {} for key in labels}, **more}}

    return enforce


@pytest.fixture
def stories():
    for slug in "abc":
        Story.objects.create(slug=slug)
    return list(Story.objects.order_by("slug"))


def titles(model=Story, field="title"):
    return list(model.objects.order_by("pk").values_list(field, flat=True))


def renamed(objects, field="title"):
    for obj in objects:
        setattr(obj, field, "new")
    return objects


# What an upsert by key names; MariaDB takes no names.
UNIQUE = [] if connection.vendor == "mysql" else ["slug"]


def upsert(crowd):
    new = [Slug(slug=story.slug, name="new") for story in crowd.stories]
    Slug.objects.bulk_create(
        new, update_conflicts=True, update_fields=["name"], unique_fields=UNIQUE
    )


def upsert_wrongly(**options):
    options = {"update_fields": ["name"], "unique_fields": UNIQUE, **options}
    Slug.objects.bulk_create([Slug(slug="x")], update_conflicts=True, **options)


# What a bulk write costs more for its locks, however many rows it changes, and, for a fading lock,
# 1 more: by one way to look for the rows, one to hold the locks.
COSTS = {
    "update": (2, lambda c: Story.objects.exclude(slug="other").update(title="new")),
    "update by an expression": (
        2,
        lambda c: Story.objects.filter(photo=c.photo).update(title=F("slug")),
    ),
    "update of a filter": (2, lambda c: c.section.story_set.filter(views=0).update(title="new")),
    "bulk_update": (2, lambda c: Story.objects.bulk_update(renamed(c.stories), ["title"])),
    "bulk_create with VIA": (
        1,
        lambda c: Correction.objects.bulk_create([Correction(story=s) for s in c.stories]),
    ),
    "bulk_create with VIA over two steps": (
        2,
        lambda c: Reply.objects.bulk_create([Reply(correction=each) for each in c.corrections]),
    ),
    "update with VIA": (2, lambda c: Correction.objects.update(text="new")),
    "move with VIA": (
        2,
        lambda c: Correction.objects.filter(story__section=c.section).update(story=c.story),
    ),
    "many-to-many add": (1, lambda c: c.other_tag.story_set.add(*c.stories)),
    "many-to-many remove": (2, lambda c: c.tag.story_set.remove(*c.stories)),
    "many-to-many clear": (2, lambda c: c.tag.story_set.clear()),
    "many-to-many set": (2, lambda c: c.tag.story_set.set([])),
    "many-to-many add, from the field": (1, lambda c: c.stories[1].tags.add(*c.tags[1:])),
    "many-to-many remove, from the field": (2, lambda c: c.story.tags.remove(*c.tags)),
    "many-to-many clear, from the field": (2, lambda c: c.story.tags.clear()),
    "many-to-many set, from the field": (2, lambda c: c.story.tags.set([])),
    "many-to-many, the rows": (2, lambda c: Story.tags.through.objects.all().delete()),
    "foreign key add": (2, lambda c: c.other_photo.story_set.add(*c.stories)),
    "foreign key remove": (2, lambda c: c.photo.story_set.remove(*c.stories)),
    "foreign key clear": (2, lambda c: c.photo.story_set.clear()),
    "foreign key set": (2, lambda c: c.photo.story_set.set([])),
}
SIZES = (2, 500)


def fade():
    """Let less than half of the time of every lock be left."""
    LockToken.objects.update(locked_at=datetime.now(timezone.utc) - timedelta(seconds=3000))


class TestCost:
    @pytest.mark.parametrize(("cost", "call"), COSTS.values(), ids=COSTS)
    def test_is_the_same_for_few_rows_and_for_many(self, cost, call, crowd, extra_statements):
        for size in SIZES:
            with transaction.atomic():
                many = crowd(size)
                with locked(*many.stories):
                    assert extra_statements(call, many) == cost
                    fade()
                    assert extra_statements(call, many) == cost + 1
                transaction.set_rollback(True)

    def test_of_two_steps_that_the_rows_do_not_tell_is_one_more(self, crowd, extra_statements):
        for size in SIZES:
            with transaction.atomic():
                many = crowd(size)
                with locked(*many.stories):
                    assert extra_statements(lambda c: Reply.objects.update(text="new"), many) == 3
                transaction.set_rollback(True)

    def test_of_an_upsert(self, crowd, extra_statements, enforce):
        enforce("app.Slug")
        for size in SIZES:
            with transaction.atomic():
                many = crowd(size)
                Slug.objects.bulk_create([Slug(slug=story.slug) for story in many.stories])
                with locked(*Slug.objects.all()):
                    assert extra_statements(upsert, many) == 2
                transaction.set_rollback(True)

    @pytest.mark.parametrize("call", [call for _, call in COSTS.values()], ids=COSTS)
    def test_is_nothing_while_suspended(self, call, crowd, extra_statements):
        def block():
            return suspended(reason="the test")

        assert extra_statements(call, crowd(2), block) == 0

    @pytest.mark.parametrize(
        "call",
        [
            lambda c: Story.objects.update(views=F("views") + 1),
            lambda c: Story.objects.bulk_update(c.stories, ["views"]),
            lambda c: c.section.story_set.update(views=1),
        ],
    )
    def test_of_exempt_fields_is_nothing(self, call, crowd, extra_statements):
        assert extra_statements(call, crowd(2)) == 0

    @pytest.mark.parametrize(
        "call",
        [
            lambda c: Tag.objects.update(name="new"),
            lambda c: Tag.objects.bulk_update(renamed(c.tags, "name"), ["name"]),
            lambda c: Tag.objects.bulk_create([Tag(name="new")]),
            lambda c: Article.objects.all().delete(),
            lambda c: Person(name="new").save(),
            lambda c: Story.objects.bulk_create([Story(slug="new")]),
        ],
    )
    def test_of_what_is_not_enforced_is_nothing(self, call, crowd, extra_statements):
        assert extra_statements(call, crowd(2)) == 0

    def test_of_a_refusal_is_the_same_too(self, crowd, extra_statements):
        def refused(crowd):
            with pytest.raises(LockRequired):
                Story.objects.update(title="new")

        costs = set()
        for size in SIZES:
            with transaction.atomic():
                many = crowd(size)
                costs.add(count_of(refused, many))
                transaction.set_rollback(True)
        assert costs == {2}


def count_of(call, *args):
    with connection.execute_wrapper(counter := Counter()):
        call(*args)
    return counter.count


class Counter:
    count = 0

    def __call__(self, execute, sql, params, many, context):
        self.count += not sql.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK"))
        return execute(sql, params, many, context)


class TestWhatIsNotNamed:
    """Costs nothing and is not touched."""

    @pytest.mark.parametrize("model", [Article, Box, Museum])
    def test_keeps_its_managers_and_options(self, model, enforce):
        enforce("app.Slug", "app.Folder")
        assert type(model._meta) is Options
        for manager in (*model._meta.managers, model._base_manager, model._default_manager):
            assert type(manager) in (models.Manager, FolderManager)
            assert type(manager.all()) is models.QuerySet

    @pytest.mark.parametrize("model", [Museum, Box])
    def test_gets_no_receiver(self, model, enforce):
        enforce("app.Slug", "app.Folder")
        for signal in (pre_save, pre_delete, post_delete):
            assert signal._live_receivers(model) == ([], [])

    def test_keeps_its_methods(self, enforce):
        enforce("app.Slug", "app.Folder")
        for model in (Article, Box, Museum):
            assert model.save_base is models.Model.save_base
            assert model.delete is models.Model.delete

    def test_shares_no_manager_with_an_enforced_one_of_the_same_base(self, enforce):
        enforce("app.Folder")
        Box.objects.create()
        Folder.objects.create()
        assert Box.objects.update(name="new") == 1
        with pytest.raises(LockRequired):
            Folder.objects.update(name="new")
        assert titles(Folder, "name") == ["old"]


def thawed(data):
    return pickle.loads(data)  # noqa: S301 - we made it


QUERYSETS = {
    "all": lambda: Story.objects.all(),
    "filter": lambda: Story.objects.filter(slug__lt="c"),
    "exclude": lambda: Story.objects.exclude(slug="a"),
    "own method": lambda: Story.objects.drafts(),
    "own method later": lambda: Story.objects.all().drafts(),
    "own manager": lambda: Story.unpublished.all(),
    "default manager": lambda: Story._default_manager.all(),
    "or": lambda: Story.objects.filter(slug="a") | Story.objects.filter(slug="b"),
    "and": lambda: Story.objects.filter(slug="a") & Story.objects.filter(title="old"),
    "xor": lambda: Story.objects.filter(slug="a") ^ Story.objects.filter(title="old"),
    "using": lambda: Story.objects.using("default"),
    "db_manager": lambda: Story.objects.db_manager("default").all(),
    "only": lambda: Story.objects.only("slug"),
    "defer": lambda: Story.objects.defer("title"),
    "annotate": lambda: Story.objects.annotate(tag_count=Count("tags")),
    "alias": lambda: Story.objects.alias(name=Upper("slug")).filter(name="A"),
    "select_related": lambda: Story.objects.select_related("section"),
    "prefetch_related": lambda: Story.objects.prefetch_related("tags"),
    "select_for_update": lambda: Story.objects.select_for_update(),
    "order_by": lambda: Story.objects.order_by("-slug"),
    "distinct": lambda: Story.objects.filter(tags__name="a").distinct(),
    "subquery": lambda: Story.objects.filter(pk__in=Story.objects.filter(slug="a")),
    "copy": lambda: copy.copy(Story.objects.all()),
    "deepcopy": lambda: copy.deepcopy(Story.objects.all()),
    "pickle": lambda: thawed(pickle.dumps(Story.objects.filter(slug="a"))),
    "proxy": lambda: StoryProxy.objects.all(),
    "related": lambda: Section.objects.get().story_set.all(),
    "many-to-many": lambda: Tag.objects.get().story_set.all(),
}


class TestWhatQuerysetsStay:
    """Querysets are what they were: only their writes are guarded."""

    @pytest.fixture
    def related(self, stories):
        section, tag = Section.objects.create(name="a"), Tag.objects.create(name="a")
        with suspended(reason="fixture"):
            section.story_set.set(stories)
            tag.story_set.set(stories)
        return stories

    @pytest.mark.parametrize("make", QUERYSETS.values(), ids=QUERYSETS)
    def test_of_their_own_class_by_every_road(self, related, make):
        queryset = make()
        assert isinstance(queryset, StoryQuerySet)
        assert type(queryset).__name__ == "StoryQuerySet"
        assert type(queryset).__module__ == StoryQuerySet.__module__
        assert type(queryset).__qualname__ == StoryQuerySet.__qualname__

    @pytest.mark.parametrize("make", QUERYSETS.values(), ids=QUERYSETS)
    def test_guarded_by_every_road(self, related, make):
        with pytest.raises(LockRequired):
            make().update(title="new")
        assert titles() == ["old"] * 3
        with locked(*related):
            assert make().update(title="new") == titles().count("new") > 0

    def test_shown_as_what_they_are(self, stories):
        assert repr(Story.objects.order_by("slug")) == (
            f"<StoryQuerySet [<Story: {stories[0]}>, <Story: {stories[1]}>, <Story: {stories[2]}>]>"
        )
        assert repr(Group.objects.all()) == "<QuerySet []>"
        assert str(Story.objects) == "app.Story.objects"

    def test_managers_are_of_their_own_class(self):
        assert isinstance(Story.objects, StoryManager)
        assert isinstance(Story.unpublished, DraftManager)
        for manager, plain in ((Story.objects, StoryManager), (Story.unpublished, DraftManager)):
            assert type(manager).__name__ == plain.__name__
            assert type(manager).__module__ == plain.__module__
            assert type(manager).__qualname__ == plain.__qualname__
        assert Story.objects.model is Story
        assert Story.objects.name == "objects"
        assert Story._meta.default_manager is Story._default_manager

    def test_answers_are_the_same(self, stories):
        first = Story.objects.filter(slug="a")
        assert first.union(Story.objects.filter(slug="b")).count() == 2
        assert first.intersection(Story.objects.all()).count() == 1
        assert Story.objects.difference(first).count() == 2
        assert list(first.values("slug")) == [{"slug": "a"}]
        assert list(first.values_list("slug", flat=True)) == ["a"]
        assert list(first.iterator()) == stories[:1]
        assert first.aggregate(n=Count("pk")) == {"n": 1}
        assert Story.objects.in_bulk([stories[0].pk]) == {stories[0].pk: stories[0]}
        assert Story.objects.get(slug="a") == first.first() == first[0]
        assert first.exists()
        assert first.contains(stories[0])
        assert Photo.objects.filter(story__in=first).count() == 0

    def test_prefetches_from_and_to_them(self, stories):
        tag, section = Tag.objects.create(name="t"), Section.objects.create(name="s")
        with suspended(reason="fixture"):
            stories[0].tags.add(tag)
            section.story_set.add(stories[0])
        [found] = Story.objects.filter(slug="a").prefetch_related("tags")
        assert list(found.tags.all()) == [tag]
        drafts = Prefetch("story_set", Story.objects.drafts(), to_attr="drafts")
        [found] = Section.objects.prefetch_related("story_set", drafts)
        assert found.drafts == list(found.story_set.all()) == [stories[0]]
        [found] = Tag.objects.prefetch_related(Prefetch("story_set", Story.unpublished.all()))
        with pytest.raises(LockRequired):
            found.story_set.all().update(title="new")
        with pytest.raises(LockRequired):
            found.story_set.clear()
        assert list(stories[0].tags.all()) == [tag]

    @pytest.mark.parametrize(
        "make",
        [
            lambda: Story.objects.filter(slug__lt="c").order_by("slug"),
            lambda: Story.unpublished.filter(slug__lt="c").order_by("slug"),
            lambda: StoryProxy.objects.filter(slug__lt="c").order_by("slug"),
        ],
    )
    def test_survive_a_pickle_with_their_results_and_without(self, stories, make):
        with_results = thawed(pickle.dumps(make()))
        without = make()
        without.query = thawed(pickle.dumps(make().query))
        Story.objects.create(slug="ab")
        for found, slugs in ((with_results, ["a", "b"]), (without, ["a", "ab", "b"])):
            assert isinstance(found, StoryQuerySet)
            assert [story.slug for story in found] == slugs
            with pytest.raises(LockRequired):
                found.update(title="new")

    def test_survive_a_pickle_from_another_process(self, stories):
        code = """
import pickle, sys, django
django.setup()
from tests.app.models import Story, StoryQuerySet
from django.db import connection
queryset = pickle.loads(bytes.fromhex(sys.argv[1]))
assert isinstance(queryset, StoryQuerySet)
assert type(queryset.filter(pk=1)).__name__ == "StoryQuerySet"
print(*(story.slug for story in queryset))
"""
        queryset = Story.objects.order_by("slug")
        list(queryset)
        assert run(code, pickle.dumps(queryset).hex()) == "a b c\n"

    def test_survive_the_end_of_enforcement(self, stories, enforce):
        old = pickle.dumps(Story.objects.filter(slug="a"))
        kept = Story.objects.filter(slug="a")
        enforce()
        for queryset in (kept, thawed(old)):
            assert queryset.update(title="new") == 1
        plain = pickle.dumps(Story.objects.filter(slug="a"))
        enforce("app.Story")
        assert thawed(plain).get().title == "new"


def run(code, *arguments):
    name = str(connection.settings_dict["NAME"])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "LOCK_TOKENS_DB_NAME": name},
    )
    assert not done.returncode, done.stderr
    return done.stdout


MIGRATIONS = """
import django
from django.conf import settings
settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["auth.Group", "auth.User", "auth.Permission"]}
django.setup()
from django.contrib.auth.models import Group
from django.core.management import call_command
print(type(Group.objects.all()).__mro__[1].__name__)
call_command("makemigrations", check=True, dry_run=True)
"""


class TestMigrations:
    def test_see_no_change_in_an_enforced_model_of_somebody_else(self):
        assert run(MIGRATIONS) == "GuardedQuerySet\nNo changes detected\n"

    @pytest.mark.parametrize(
        ("model", "plain"), [(Group, GroupManager), (get_user_model(), UserManager)]
    )
    def test_write_down_the_plain_managers(self, enforce, model, plain):
        enforce("auth.Group", "auth.User")
        as_manager, path, *_ = model.objects.deconstruct()
        assert (as_manager, path) == (False, f"{plain.__module__}.{plain.__qualname__}")
        assert ModelState.from_model(model).managers == [("objects", plain())]
        assert dict(ModelState.from_model(model).construct_managers()).keys() == {"objects"}
        for _, manager in ModelState.from_model(model).construct_managers():
            assert type(manager) is plain

    def test_compare_them_as_equal(self, enforce):
        before = GroupManager()
        enforce("auth.Group")
        assert Group.objects == before
        assert before == Group.objects
        assert Group.objects == Group.objects
        assert Group.objects != models.Manager()
        assert models.Manager() != Group.objects
        assert {Group.objects: 1}[Group.objects] == 1


def state_of(model):
    """Return all that enforcement changes of a model."""
    meta = model._meta
    managers = (*meta.managers, meta.base_manager, meta.default_manager)
    return {
        "options": type(meta),
        "managers": [(type(manager), manager.name, manager.model) for manager in managers],
        "querysets": [type(manager.all()) for manager in managers],
        "methods": [vars(model).get(name) for name in ("save_base", "delete")],
        "relations": [
            (name, related_manager(model, name).__mro__[1:])
            for name in ("story_set", "stories", "tags", "authors", "correction_set", "related")
            if hasattr(model, name)
        ],
        "receivers": [s._live_receivers(model) for s in (pre_save, pre_delete, post_delete)],
    }


def related_manager(model, name):
    return getattr(model, name).related_manager_cls


def all_models():
    return apps.get_models(include_auto_created=True)


class TestUndo:
    @pytest.fixture
    def plain(self, enforce):
        enforce()
        receivers.disconnect()
        return {model: state_of(model) for model in all_models()}

    def test_leaves_everything_as_django_made_it(self, plain, enforce):
        enforce(**ENFORCED)
        assert {model for model in all_models() if state_of(model) != plain[model]} >= {
            Story,
            StoryProxy,
            Story.tags.through,
            Correction,
            Section,
            Photo,
            Tag,
        }
        receivers.disconnect()
        assert {model: state_of(model) for model in all_models()} == plain

    def test_is_the_same_after_two_connections_and_two_disconnections(self, plain, enforce):
        enforce(**ENFORCED)
        once = {model: state_of(model) for model in all_models()}
        receivers.connect()
        again = {model: state_of(model) for model in all_models()}
        for state in (*once.values(), *again.values()):
            del state["methods"], state["receivers"]
        assert again == once
        receivers.disconnect()
        receivers.disconnect()
        assert {model: state_of(model) for model in all_models()} == plain

    def test_lets_writes_pass_and_stops_them_again(self, stories, enforce):
        section = Section.objects.create(name="a")
        with suspended(reason="fixture"):
            section.story_set.set(stories)
        for _ in range(2):
            enforce("app.Story")
            with pytest.raises(LockRequired):
                section.story_set.update(title="new")
            with pytest.raises(LockRequired):
                stories[0].tags.set([Tag.objects.create(name="a")])
            enforce()
            assert section.story_set.update(title="old") == 3
            stories[0].tags.set([Tag.objects.create(name="a")])

    def test_reaches_managers_that_somebody_kept(self, stories, enforce):
        enforce()
        section = Section.objects.create(name="a")
        kept = [Story.objects, Story._base_manager]
        enforce("app.Story")
        section.story_set.count()
        for manager in (*kept, section.story_set):
            enforce("app.Story")
            with pytest.raises(LockRequired):
                Story.objects.update(title="new")
            enforce()
            assert manager.all().update(title="old") in (0, 3)


class TestWhatComesLater:
    """Classes, managers and caches after start-up."""

    def forget(self, *models_):
        for model in models_:
            del apps.all_models["app"][model._meta.model_name]
        apps.clear_cache()

    def test_a_proxy_is_guarded(self, stories):
        class LateProxy(Story):
            class Meta:
                proxy = True
                app_label = "app"

        try:
            with pytest.raises(LockRequired):
                LateProxy.objects.update(title="new")
            late = LateProxy.objects.get(slug="a")
            for write in (late.save, late.delete):
                with pytest.raises(LockRequired):
                    write()
            with locked(late):
                late.save()
        finally:
            self.forget(LateProxy)

    def test_so_is_a_child_and_its_querysets(self, stories):
        class LateChild(Story):
            class Meta:
                app_label = "app"

        try:
            assert isinstance(LateChild.objects.all(), StoryQuerySet)
            # Its table was never made, so nothing but the guard can answer first.
            assert "GuardedQuerySet" in {c.__name__ for c in type(LateChild.objects.all()).__mro__}
        finally:
            self.forget(LateChild)

    def test_an_unrelated_model_disturbs_nothing(self, stories):
        class Unrelated(models.Model):
            class Meta:
                app_label = "app"

        try:
            assert type(Unrelated._meta) is Options
            with pytest.raises(LockRequired):
                Story.objects.update(title="new")
        finally:
            self.forget(Unrelated)
        with pytest.raises(LockRequired):
            Story._base_manager.update(title="new")

    def test_neither_does_clearing_the_caches(self, stories):
        section = Section.objects.create(name="a")
        with suspended(reason="fixture"):
            section.story_set.set(stories)
        apps.clear_cache()
        for manager in (Story.objects, Story._base_manager, Story.unpublished, section.story_set):
            with pytest.raises(LockRequired):
                manager.all().update(title="new")
        with pytest.raises(LockRequired):
            stories[0].tags.create(name="new")
        with pytest.raises(LockRequired):
            section.delete()

    def test_a_manager_that_is_added_is_guarded(self, stories):
        Story.add_to_class("late", StoryManager())
        try:
            assert isinstance(Story.late, StoryManager)
            with pytest.raises(LockRequired):
                Story.late.update(title="new")
        finally:
            Story._meta.local_managers = [m for m in Story._meta.local_managers if m.name != "late"]
            delattr(Story, "late")
            Story._meta._expire_cache(reverse=False)


class TestManagersOfEveryKind:
    @pytest.fixture
    def folders(self, enforce):
        enforce("app.Folder")
        person = Person.objects.create(name="a")
        return [Folder.objects.create(owner=person, hidden=hidden) for hidden in (False, True)]

    @pytest.mark.parametrize(
        ("manager", "found"),
        [
            (lambda: Folder.objects, 1),
            (lambda: Folder.everything, 2),
            (lambda: Folder._base_manager, 2),
            (lambda: Folder._default_manager, 2),
            (lambda: FolderProxy.visible, 1),
            (lambda: FolderProxy.objects, 1),
            (lambda: FolderProxy._default_manager, 1),
            (lambda: FolderProxy._base_manager, 2),
            (lambda: Person.objects.get().folder_set, 2),
            (lambda: Person.objects.get().folder_set(manager="objects"), 1),
            (lambda: Person.objects.get().folder_set(manager="everything"), 2),
        ],
    )
    def test_finds_what_it_did_and_is_guarded(self, folders, manager, found):
        assert manager().count() == found
        for write in (lambda: manager().update(name="new"), lambda: manager().all().delete()):
            with pytest.raises(LockRequired):
                write()
        assert titles(Folder.everything.model, "name") != []
        with locked(*folders):
            assert manager().update(name="new") == found

    def test_a_related_manager_of_a_named_one_is_guarded_in_its_methods(self, folders):
        related = Person.objects.get().folder_set(manager="objects")
        for write in (
            lambda: related.clear(),
            lambda: related.set([]),
            lambda: related.remove(folders[0]),
        ):
            with pytest.raises(LockRequired):
                write()
        assert Folder.everything.filter(owner=None).count() == 0


@pytest.fixture
def somebody_else():
    """Write through a connection of its own, as another process would; closed afterwards."""
    other = connection.copy()

    def run(sql, params=()):
        with other.cursor() as cursor:
            cursor.execute(sql, params)

    yield run
    other.close()


@pytest.fixture
def before_the_write(monkeypatch):
    """Call something between the judgement of a write and the write."""

    def hook(call):
        judge = guard.judge

        def judge_and_call(found):
            judgement = judge(list(found))
            call()
            return judgement

        monkeypatch.setattr(guard, "judge", judge_and_call)

    return hook


class TestUpdate:
    @pytest.mark.parametrize(
        ("queryset", "values"),
        [
            (lambda: Story.objects.all(), {"title": Upper("slug")}),
            (lambda: Story.objects.annotate(n=Concat("slug", Value("!"))), {"title": F("n")}),
            (lambda: Story.objects.values("slug"), {"title": "new"}),
            (lambda: Story.objects.values_list("slug", flat=True), {"title": "new"}),
            (lambda: Story.objects.order_by("-slug"), {"title": "new"}),
            (lambda: Story.objects.annotate(n=Count("tags")).filter(n=0), {"title": "new"}),
            (lambda: Story.objects.filter(tags=None), {"title": "new"}),
            (lambda: Story.objects.select_for_update(), {"title": "new"}),
            (lambda: Story.objects.select_for_update().distinct(), {"title": "new"}),
            (lambda: Story.objects.only("slug"), {"title": "new"}),
        ],
    )
    def test_of_every_kind_changes_what_django_would(self, stories, queryset, values):
        with transaction.atomic(), suspended(reason="what Django would"):
            assert queryset().update(**values) == 3
            expected = titles()
            transaction.set_rollback(True)
        with pytest.raises(LockRequired):
            queryset().update(**values)
        with locked(*stories[:2]), pytest.raises(LockRequired):
            queryset().update(**values)
        assert titles() == ["old"] * 3
        with locked(*stories):
            assert queryset().update(**values) == 3
        assert titles() == expected

    def test_forgets_what_the_queryset_had_read(self, stories):
        queryset = Story.objects.order_by("slug")
        list(queryset)
        with locked(*stories):
            queryset.update(title="new")
        assert {story.title for story in queryset} == {"new"}

    @pytest.mark.parametrize(
        "make",
        [lambda: Story.objects.none(), lambda: Story.objects.filter(slug="x")],
    )
    def test_of_nothing_needs_no_token(self, stories, make):
        assert make().update(title="new") == 0
        assert make().delete()[0] == 0

    @pytest.mark.parametrize("write", [lambda q: q.update(title="new"), lambda q: q.delete()])
    @pytest.mark.parametrize(
        "make",
        [
            lambda: Story.objects.all()[:2],
            lambda: Story.objects.filter(slug="a").union(Story.objects.filter(slug="b")),
            lambda: Story.objects.values("slug")[:1],
        ],
    )
    def test_of_what_is_no_set_of_rows_is_djangos_error(self, stories, enforce, make, write):
        enforce()
        with pytest.raises((TypeError, NotSupportedError)) as expected, transaction.atomic():
            write(make())
        enforce("app.Story")
        with pytest.raises(expected.type) as caught, transaction.atomic():
            write(make())
        assert str(caught.value) == str(expected.value)

    def test_of_distinct_fields_asks_for_all_that_it_changes(self, stories, enforce):
        """Before 6.1 Django changes every row, whatever is distinct; since then it refuses."""
        enforce()
        refused = ()
        try:
            with transaction.atomic():
                Story.objects.distinct("title").update(title="old")
        except TypeError:
            refused = TypeError
        enforce("app.Story")
        for write in (
            lambda: Story.objects.distinct("title").update(title="new"),
            lambda: Story.objects.distinct("title").bulk_update(renamed(stories), ["title"]),
        ):
            with locked(*stories[:2]), pytest.raises(LockRequired):
                write()
            assert titles() == ["old"] * 3
            with locked(*stories), pytest.raises(refused) if refused else nullcontext():
                write()
                assert titles() == ["new"] * 3
                Story.objects.update(title="old")
        with pytest.raises(TypeError, match="Cannot call delete"):
            Story.objects.distinct("title").delete()

    def test_of_values_that_are_deleted_is_djangos_error(self, stories):
        with pytest.raises(TypeError, match="Cannot call delete"):
            Story.objects.values("slug").delete()

    @pytest.mark.parametrize(
        "write",
        [
            lambda: Story.objects.update(nonsense=1),
            lambda: Story.objects.update(title=F("nonsense")),
            lambda: Story.objects.bulk_update(list(Story.objects.all()), ["nonsense"]),
            lambda: Story.objects.bulk_update(list(Story.objects.all()), []),
            lambda: Story.objects.bulk_update([Story(slug="x")], ["title"]),
            lambda: Story.objects.bulk_update(list(Story.objects.all()), ["title"], batch_size=-1),
            lambda: Story.objects.bulk_update(list(Story.objects.all()), ["id"]),
            lambda: Story.objects.bulk_create([Story(slug="x")], batch_size=-1),
            *(
                partial(upsert_wrongly, **options)
                for options in (
                    {"ignore_conflicts": True},
                    {"update_fields": None},
                    {"update_fields": ["id"]},
                    {"update_fields": ["nonsense"]},
                    {"update_fields": ["tags"]},
                    {"unique_fields": ["nonsense"]},
                    {"unique_fields": None if UNIQUE else ["slug"]},
                )
            ),
        ],
    )
    def test_mistakes_are_djangos_errors_under_the_locks(self, stories, enforce, write):
        enforce()
        with pytest.raises(Exception) as expected, transaction.atomic():  # noqa: PT011
            write()
        enforce("app.Story", "app.Slug")
        with locked(*stories), pytest.raises(expected.type) as caught, transaction.atomic():
            write()
        assert str(caught.value) == str(expected.value)

    def test_of_a_child_touches_the_tables_of_both(self, enforce):
        enforce("app.Place")
        restaurants = [Restaurant.objects.create(name="old") for _ in "ab"]
        plain = Place.objects.create(name="old")
        for values in ({"name": "new"}, {"stars": 3}, {"name": "new", "stars": 3}):
            with pytest.raises(LockRequired) as caught:
                Restaurant.objects.update(**values)
            assert {error.pk for error in caught.value.refused} == {r.pk for r in restaurants}
            assert Restaurant.objects.filter(name="old", stars=0).count() == 2
        with locked(*restaurants):
            assert Restaurant.objects.update(name="new", stars=3) == 2
        assert Restaurant.objects.filter(name="new", stars=3).count() == 2
        plain.refresh_from_db()
        assert plain.name == "old"

    def test_of_parents_needs_the_locks_of_those_that_are_enforced_children(self, enforce):
        enforce("app.Restaurant")
        restaurant = Restaurant.objects.create(name="old")
        Place.objects.create(name="old")
        with pytest.raises(LockRequired) as caught:
            Place.objects.update(name="new")
        assert (caught.value.pk, caught.value.refused) == (restaurant.pk, (caught.value,))
        with locked(restaurant):
            assert Place.objects.update(name="new") == 2

    def test_of_a_row_with_two_parents_needs_both_locks(self, enforce):
        enforce("app.Place", "app.Shop")
        cafe = Cafe.objects.create(name="old", sign="old", id=7, shop_id=8)
        place, shop = Place.objects.get(), Shop.objects.get()
        for held in (place, shop):
            with locked(held), pytest.raises(LockRequired):
                Cafe.objects.update(name="new", sign="new")
            with locked(held), pytest.raises(LockRequired):
                Cafe.objects.all().delete()
        assert Cafe.objects.filter(name="old", sign="old").exists()
        with locked(place, shop):
            assert Cafe.objects.update(name="new", sign="new") == 1
            Cafe.objects.filter(pk=cafe.pk).delete()
        assert not LockToken.objects.exists()

    SHAPES = {
        "composite key": (Line, "text", lambda n: {"order": 1, "number": n}),
        "UUID key": (Uuid, "name", lambda n: {"id": UUID(int=n)}),
        "text key": (Slug, "name", lambda n: {"slug": f"A/b c{n}"}),
        "moment key": (
            Dated,
            "name",
            lambda n: {"at": datetime(2026, 1, n, 2, 3, 4, 5, timezone.utc)},
        ),
    }

    @pytest.mark.parametrize(("model", "field", "key"), SHAPES.values(), ids=SHAPES)
    def test_finds_the_locks_of_keys_of_every_shape(self, enforce, model, field, key):
        enforce(model._meta.label)
        objects = [model.objects.create(**{field: "old"}, **key(n)) for n in (1, 2, 3)]
        writes = {
            "update": lambda: model.objects.update(**{field: "new"}),
            "bulk_update": lambda: model.objects.bulk_update(renamed(objects, field), [field]),
            "filter": lambda: model.objects.filter(pk=objects[0].pk).update(**{field: "new"}),
            "delete": lambda: model.objects.all().delete(),
        }
        for name, write in writes.items():
            with hold_lock(objects[0]), locked(*objects[1:]), pytest.raises(ObjectLocked):
                write()
            assert set(titles(model, field)) == {"old"}, name
        for write in writes.values():
            with locked(*objects):
                model.objects.update(**{field: "old"})
                write()
            model.objects.exists()
        assert not model.objects.exists()
        assert not LockToken.objects.exists()

    def test_bulk_update_in_batches_is_all_or_nothing(self, stories):
        with locked(*stories[:2]), pytest.raises(LockRequired):
            Story.objects.bulk_update(renamed(stories), ["title"], batch_size=1)
        assert titles() == ["old"] * 3
        with locked(*stories):
            assert Story.objects.bulk_update(stories, ["title"], batch_size=1) == 3
        assert titles() == ["new"] * 3

    def test_bulk_update_of_expressions(self, stories):
        for story in stories:
            story.title = Upper("slug")
        with locked(*stories[:2]), pytest.raises(LockRequired):
            Story.objects.bulk_update(stories, ["title"])
        with locked(*stories):
            Story.objects.bulk_update(stories, ["title"])
        assert titles() == ["A", "B", "C"]

    def test_bulk_update_of_a_foreign_key_that_ties_by_an_expression_is_refused(self, stories):
        with suspended(reason="fixture"):
            correction = Correction.objects.create(story=stories[0])
        correction.story_id = F("id")
        with locked(*stories), pytest.raises(LockRequired) as caught:
            Correction.objects.bulk_update([correction], ["story"])
        assert str(caught.value) == (
            f"app.Correction {correction.pk} was not written: story_id is an expression, so it "
            "cannot be known whose lock protects the row afterwards; assign the object itself."
        )

    def test_a_handler_in_an_update_gets_no_share_of_its_judgement(self, stories):
        """What is judged together is the rows of that update, and not the model."""
        with locked(*stories[:1]):
            Story.objects.filter(slug="a").update(title="new")
            with pytest.raises(LockRequired):
                Story.objects.filter(slug="b").update(title="new")


@pytest.mark.django_db(transaction=True)
class TestBetweenLookAndWrite:
    """What another connection does after the rows were judged is not written unjudged."""

    # SQLite has one writer: there is no such moment.
    if connection.vendor != "sqlite":

        def test_an_update_leaves_a_row_that_came_to_it(
            self, stories, somebody_else, before_the_write
        ):
            before_the_write(
                lambda: somebody_else("UPDATE app_story SET slug = 'ab' WHERE slug = 'c'")
            )
            with locked(*stories[:2]):
                Story.objects.filter(slug__lt="b0").update(title="new")
            assert titles() == ["new", "new", "old"]

        def test_a_deletion_leaves_it_too(self, enforce, somebody_else, before_the_write):
            enforce("app.Article")
            articles = [Article.objects.create(title=title) for title in "abc"]
            before_the_write(
                lambda: somebody_else("UPDATE app_article SET title = 'a' WHERE title = 'c'")
            )
            with locked(*articles[:2]):
                Article.objects.filter(title__lte="b").delete()
            assert Article.objects.get() == articles[2]

        def test_so_it_is_with_rows_between(self, stories, somebody_else, before_the_write):
            tag = Tag.objects.create(name="a")
            with suspended(reason="fixture"):
                stories[0].tags.add(tag)
            sql = "INSERT INTO app_story_tags (story_id, tag_id) VALUES (%s, %s)"
            before_the_write(lambda: somebody_else(sql, [stories[1].pk, tag.pk]))
            with locked(stories[0]):
                tag.story_set.clear()
            assert list(tag.story_set.all()) == [stories[1]]

        def test_it_would_be_written_if_the_write_looked_for_itself(
            self, stories, somebody_else, before_the_write, monkeypatch
        ):
            # The negative control.
            monkeypatch.setattr(subjects, "just", lambda queryset, rows: queryset)
            before_the_write(
                lambda: somebody_else("UPDATE app_story SET slug = 'ab' WHERE slug = 'c'")
            )
            with locked(*stories[:2]):
                Story.objects.filter(slug__lt="b0").update(title="new")
            assert titles() == ["new"] * 3


class TestBulkCreate:
    def upsert(self, slugs, fields=("name",), **options):
        options.setdefault("unique_fields", UNIQUE)
        objects = [Slug(slug=slug, name="new") for slug in slugs]
        created = Slug.objects.bulk_create(
            objects, update_conflicts=True, update_fields=list(fields), **options
        )
        assert created == objects
        return created

    @pytest.fixture
    def slugs(self, enforce):
        enforce("app.Slug")
        return [Slug.objects.create(slug=slug, name="old") for slug in "ab"]

    def test_of_new_rows_needs_no_token(self, slugs):
        self.upsert("xy")
        assert set(titles(Slug, "slug")) == {*"abxy"}

    @pytest.mark.parametrize("keys", ["a", "ab", "xa", "ax", "xay"])
    def test_an_upsert_of_rows_that_are_there_needs_their_tokens(self, slugs, keys):
        with pytest.raises(LockRequired):
            self.upsert(keys)
        with hold_lock(slugs[0]), pytest.raises(ObjectLocked):
            self.upsert(keys)
        assert list(Slug.objects.order_by("slug").values_list("slug", "name")) == [
            ("a", "old"),
            ("b", "old"),
        ]
        with locked(*slugs):
            created = self.upsert(keys)
        assert [obj.slug for obj in created] == list(keys)
        names = dict(Slug.objects.values_list("slug", "name"))
        assert names == {"a": "old", "b": "old", **dict.fromkeys(keys, "new")}
        assert not any(obj._state.adding for obj in created)

    def test_without_the_guard_an_upsert_overwrites(self, slugs, enforce):
        # The negative control.
        enforce()
        self.upsert("a")
        assert Slug.objects.get(slug="a").name == "new"

    @pytest.mark.parametrize("unique", ["slug", "pk"])
    def test_the_key_may_be_named_in_any_way(self, slugs, unique):
        if connection.vendor == "mysql":
            with locked(*slugs), pytest.raises(NotSupportedError):
                self.upsert("a", unique_fields=[unique])
        else:
            with pytest.raises(LockRequired):
                self.upsert("a", unique_fields=[unique])
            with locked(*slugs):
                self.upsert("a", unique_fields=[unique])

    MESSAGE = (
        "Objects of app.Story were not written: bulk_create(update_conflicts=True) may overwrite "
        "rows that cannot be known before; lock the rows that exist and use bulk_update() for "
        "them, and bulk_create() for the others."
    )

    def test_an_upsert_on_another_unique_field_is_refused(self, stories):
        """Also on MariaDB, where any unique column counts."""
        objects = [Story(slug=slug, title="new") for slug in "ax"]
        with locked(*stories), pytest.raises(WriteRefused) as caught:
            Story.objects.bulk_create(
                objects, update_conflicts=True, update_fields=["title"], unique_fields=UNIQUE
            )
        assert str(caught.value) == self.MESSAGE
        assert caught.value.model_label == "app.Story"
        assert titles() == ["old"] * 3

    @pytest.mark.parametrize("fields", [["title"], ["title", "views"]])
    def test_an_upsert_by_key_of_a_model_with_other_unique_fields(self, stories, fields):
        objects = [Story(pk=stories[0].pk, slug="a", title="new")]
        options = {"update_conflicts": True, "update_fields": fields, "unique_fields": ["id"]}
        if connection.vendor == "mysql":
            options["unique_fields"] = []
            with locked(*stories), pytest.raises(WriteRefused) as caught:
                Story.objects.bulk_create(objects, **options)
            assert str(caught.value) == self.MESSAGE
        else:
            with pytest.raises(LockRequired):
                Story.objects.bulk_create(objects, **options)
            with locked(stories[0]):
                Story.objects.bulk_create(objects, **options)
            assert titles() == ["new", "old", "old"]

    def test_an_upsert_of_exempt_fields_needs_no_token(self, slugs, enforce):
        enforce(**{"app.Slug": {"EXEMPT_FIELDS": ["name"]}})
        self.upsert("ax")
        assert Slug.objects.filter(name="new").count() == 2

    def test_conflicts_that_are_ignored_write_nothing(self, slugs):
        Slug.objects.bulk_create(
            [Slug(slug=slug, name="new") for slug in "ax"], ignore_conflicts=True
        )
        assert dict(Slug.objects.values_list("slug", "name")) == {
            "a": "old",
            "b": "old",
            "x": "new",
        }

    def test_conflicts_that_are_ignored_still_need_the_locks_of_via(self, stories):
        new = [Correction(pk=7, story=stories[0])]
        with pytest.raises(LockRequired):
            Correction.objects.bulk_create(new, ignore_conflicts=True)
        with locked(stories[0]):
            Correction.objects.bulk_create(new, ignore_conflicts=True)
        assert Correction.objects.get().story == stories[0]

    def test_an_upsert_that_moves_a_row_needs_both_locks(self, stories):
        with locked(stories[0]):
            correction = Correction.objects.create(story=stories[0])
        options = {
            "update_conflicts": True,
            "update_fields": ["story"],
            "unique_fields": [] if connection.vendor == "mysql" else ["id"],
        }
        for held in stories[:2]:
            with locked(held), pytest.raises(LockRequired):
                Correction.objects.bulk_create(
                    [Correction(pk=correction.pk, story=stories[1])], **options
                )
        with locked(*stories[:2]):
            Correction.objects.bulk_create(
                [Correction(pk=correction.pk, story=stories[1])], **options
            )
        assert Correction.objects.get().story == stories[1]

    def test_with_via_needs_the_lock_of_each_object(self, stories):
        new = [Correction(story=story) for story in stories]
        with locked(*stories[:2]), pytest.raises(LockRequired) as caught:
            Correction.objects.bulk_create(new)
        assert str(caught.value) == (
            f"A new app.Correction is protected by the lock of app.Story {stories[2].pk}. "
            f"app.Story {stories[2].pk} was not written: lock it first and present the token "
            "(header, form field, session or lock_tokens.enforcement.locked)."
        )
        assert not Correction.objects.exists()
        with locked(*stories):
            assert len(Correction.objects.bulk_create(iter(new), batch_size=1)) == 3
        assert Correction.objects.count() == 3

    def test_with_via_to_an_unsaved_object_is_djangos_error(self, stories):
        with pytest.raises(ValueError, match="unsaved related object"):
            Correction.objects.bulk_create([Correction(story=Story(slug="x"))])


class TestRefusalOfMany:
    """One error for all objects that were refused."""

    def refuse(self, count):
        made = [Story(slug=f"story-{n:02}") for n in range(count)]
        Story.objects.bulk_create(made)
        with pytest.raises(WriteRefused) as caught:
            Story.objects.update(title="new")
        return caught.value

    def names(self, error, count):
        """Name the first ones, in the order in which the database has found them."""
        return ", ".join(f"app.Story {each.pk}" for each in error.refused[:count])

    REST = (
        "was not written: lock it first and present the token "
        "(header, form field, session or lock_tokens.enforcement.locked)."
    )

    def test_names_the_one(self):
        error = self.refuse(1)
        assert str(error) == f"{self.names(error, 1)} {self.REST}"
        assert error.refused == (error,)

    @pytest.mark.parametrize(("count", "more"), [(2, ""), (10, ""), (12, " and 2 more")])
    def test_names_the_first_ten_and_counts_the_others(self, count, more):
        error = self.refuse(count)
        assert str(error) == (
            f"Nothing was written: {count} objects are refused, {self.names(error, 10)}{more}. "
            f"{self.names(error, 1)} {self.REST}"
        )
        assert {each.pk for each in error.refused} == set(
            Story.objects.values_list("pk", flat=True)
        )
        assert len(error.refused) == count

    def test_is_of_the_gravest_kind(self, stories, lock):
        stale = lock(stories[1])
        LockableModel.unlock(stories[1], stale)
        with holding(stale):
            with hold_lock(stories[2]), pytest.raises(ObjectLocked) as caught:
                Story.objects.update(title="new")
            assert caught.value.pk == stories[2].pk
            assert {type(error) for error in caught.value.refused} == {ObjectLocked, StaleToken}
            with pytest.raises(StaleToken):
                Story.objects.update(title="new")
        with pytest.raises(LockRequired):
            Story.objects.update(title="new")

    def test_tells_no_token(self, stories, lock, caplog):
        tokens = [lock(story) for story in stories[1:]]
        stale = lock(stories[0])
        LockableModel.unlock(stories[0], stale)
        with holding(stale), pytest.raises(ObjectLocked) as caught:
            Story.objects.update(title="new")
        told = [str(caught.value), repr(caught.value), repr(vars(caught.value)), caplog.text]
        told += [repr(vars(error)) for error in caught.value.refused]
        told.append(str(pickle.dumps(caught.value)))
        for token in (*tokens, stale):
            assert not any(token in text for text in told)

    @pytest.mark.parametrize("count", [1, 3])
    @pytest.mark.parametrize(
        "again", [copy.copy, copy.deepcopy, lambda error: thawed(pickle.dumps(error))]
    )
    def test_survives_a_copy_and_a_pickle(self, count, again):
        error = self.refuse(count)
        found = again(error)
        assert type(found) is type(error)
        assert str(found) == str(error)
        assert (found.pk, found.model_label, found.lock) == (
            error.pk,
            error.model_label,
            error.lock,
        )
        assert [each.pk for each in found.refused] == [each.pk for each in error.refused]

    def test_is_logged_once(self, stories, caplog):
        with pytest.raises(LockRequired):
            Story.objects.update(title="new")
        [record] = [r for r in caplog.records if r.name == "lock_tokens"]
        assert record.levelname == "WARNING"
        assert record.getMessage().startswith(
            f"LockRequired: {', '.join(f'app.Story {story.pk}' for story in stories)}"
        )

    def test_the_first_of_the_gravest_speaks_for_them(self):
        errors = [LockRequired(pk=1), ObjectLocked(pk=2), StaleToken(pk=3), ObjectLocked(pk=4)]
        assert refusal_of_many(errors) is errors[1]
        assert errors[1].refused == tuple(errors)
