"""Deletions are judged as a whole, with all that they cascade to, and take the locks with them."""

from contextlib import nullcontext
from datetime import datetime, timedelta, timezone

import django
import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
from django.db.models import ProtectedError, RestrictedError
from django.db.models.signals import post_delete, pre_delete

from lock_tokens.enforcement import locked, suspended
from lock_tokens.exceptions import LockRequired, ObjectLocked
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.testing import hold_lock
from tests.app.models import (
    Archived,
    Article,
    Authorship,
    Cafe,
    Correction,
    Custom,
    Drawer,
    Folder,
    Kept,
    Label,
    Museum,
    Page,
    Paper,
    Person,
    Photo,
    Place,
    Profile,
    Reply,
    Restaurant,
    Section,
    Shop,
    Slug,
    Story,
    Tag,
)
from tests.enforcement.conftest import Undone

ENFORCED = {
    "app.Story": {"EXEMPT_FIELDS": ["views"]},
    "app.Correction": {"VIA": "story"},
    "app.Reply": {"VIA": "correction.story"},
}
SIZES = (2, 500)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def enforced(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ENFORCED}


@pytest.fixture
def enforce(settings):
    def enforce(*labels, **more):
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": {**{key: {} for key in labels}, **more}}

    return enforce


def fade():
    """Let less than half of the time of every lock be left."""
    LockToken.objects.update(locked_at=datetime.now(timezone.utc) - timedelta(seconds=3000))


# One statement holds the locks, one removes those of what is gone; one looks for the rows that
# relate what is deleted to other stories, and one more at each model with VIA.
COSTS = {
    "section": (3, lambda c: c.section.delete()),
    "sections": (3, lambda c: Section.objects.all().delete()),
    "stories": (3, lambda c: c.section.story_set.all().delete()),
    "SET_NULL": (2, lambda c: c.photo.delete()),
    "SET_NULL by a queryset": (2, lambda c: Photo.objects.filter(pk=c.photo.pk).delete()),
    "SET_DEFAULT": (2, lambda c: c.desk.delete()),
    "rows between": (2, lambda c: c.tag.delete()),
    "rows between by a queryset": (2, lambda c: Tag.objects.filter(pk=c.tag.pk).delete()),
}
COSTS_WITH_VIA = {
    "section": (5, COSTS["section"][1]),
    "stories": (5, COSTS["stories"][1]),
    "corrections": (4, lambda c: Correction.objects.all().delete()),
    "replies": (4, lambda c: Reply.objects.all().delete()),
}


def more(name, size):
    """Return how many parts more there are to look at: Django 5.2 splits them on SQLite."""
    splits = connection.vendor == "sqlite" and django.VERSION < (6, 0)
    return int(splits and size > 499 and name in ("section", "sections", "stories"))


class TestCost:
    @pytest.mark.parametrize("name", COSTS)
    @pytest.mark.parametrize("size", SIZES)
    def test_is_the_same_for_few_rows_and_for_many(
        self, name, size, crowd, extra_statements, enforce
    ):
        enforce("app.Story")
        many, (cost, call) = crowd(size), COSTS[name]
        cost += more(name, size)
        with locked(*many.stories):
            fade()
            with locked(many.other_story):
                # What is deleted need not be renewed, and what is left must be.
                assert extra_statements(call, many) == max(cost, 3)
                LockToken.objects.update(locked_at=datetime.now(timezone.utc))
                assert extra_statements(call, many) == cost

    @pytest.mark.parametrize("name", COSTS_WITH_VIA)
    @pytest.mark.parametrize("size", SIZES)
    def test_with_via_is_the_same_too(self, name, size, crowd, extra_statements):
        many, (cost, call) = crowd(size), COSTS_WITH_VIA[name]
        with locked(*many.stories, many.other_story):
            assert extra_statements(call, many) == cost + more(name, size)

    @pytest.mark.parametrize("call", [call for _, call in COSTS.values()], ids=COSTS)
    def test_while_suspended_is_the_removal_of_the_locks(
        self, call, crowd, extra_statements, enforce
    ):
        enforce("app.Story")
        costs = set()
        for size in SIZES:
            with transaction.atomic():
                many = crowd(size)
                costs.add(extra_statements(call, many, lambda: suspended(reason="the test")))
                transaction.set_rollback(True)
        assert costs in ({0}, {1})

    def test_of_what_reaches_nothing_enforced_is_nothing(self, crowd, extra_statements, enforce):
        enforce("app.Slug")
        many = crowd(2)
        assert extra_statements(lambda c: c.section.delete(), many) == 0
        assert extra_statements(lambda c: c.stories[0].delete(), many) == 0

    def test_listeners_of_the_project_are_told_of_each_row(self, crowd):
        """And then Django loads the rows, as it does without this package."""
        told = []

        def listen(sender, instance, **kwargs):
            told.append((sender, instance.pk))

        many = crowd(2)
        replies = set(Reply.objects.values_list("pk", flat=True))
        for signal in (pre_delete, post_delete):
            signal.connect(listen, sender=Reply)
        try:
            with locked(*many.stories, many.other_story):
                many.section.delete()
        finally:
            for signal in (pre_delete, post_delete):
                signal.disconnect(listen, sender=Reply)
        assert sorted(told, key=str) == sorted([(Reply, pk) for pk in replies] * 2, key=str)


class News:
    """A section with two stories, and all that refers to them, as it is stored."""

    def __init__(self):
        self.section, self.photo = Section.objects.get(), Photo.objects.get()
        self.person, self.tag = Person.objects.get(), Tag.objects.get(name="a")
        self.other_tag = Tag.objects.get(name="b")
        self.stories = list(Story.objects.order_by("slug"))


@pytest.fixture
def news():
    with suspended(reason="fixture"):
        section, photo = Section.objects.create(name="a"), Photo.objects.create(name="a")
        person, tag = Person.objects.create(name="a"), Tag.objects.create(name="a")
        Tag.objects.create(name="b")
        for slug in "ab":
            story = Story.objects.create(slug=slug, section=section, photo=photo)
            story.tags.add(tag)
            Authorship.objects.create(story=story, person=person)
            Reply.objects.create(correction=Correction.objects.create(story=story))
    return News()


def everything():
    """Return all that is stored, but for the keys of rows between, which are made anew."""
    models = (Section, Photo, Tag, Person, Story, Authorship, Correction, Reply)
    found = {model: list(model._base_manager.order_by("pk").values_list()) for model in models}
    return found, set(Story.tags.through.objects.values_list("story", "tag"))


DELETIONS = {
    "instance": lambda n: n.stories[0].delete(),
    "queryset": lambda n: Story.objects.all().delete(),
    "section": lambda n: n.section.delete(),
    "sections": lambda n: Section.objects.all().delete(),
    "photo": lambda n: n.photo.delete(),
    "photos": lambda n: Photo.objects.all().delete(),
    "tag": lambda n: n.tag.delete(),
    "tags": lambda n: Tag.objects.all().delete(),
    "person": lambda n: n.person.delete(),
    "corrections": lambda n: Correction.objects.all().delete(),
    "correction": lambda n: Correction.objects.first().delete(),
    "replies": lambda n: Reply.objects.all().delete(),
    "related": lambda n: n.section.story_set.all().delete(),
}
RELATIONS = {
    "many-to-many set": lambda n: n.tag.story_set.set([]),
    "many-to-many clear": lambda n: n.tag.story_set.clear(),
    "many-to-many set of others": lambda n: n.stories[0].tags.set([n.other_tag]),
    "many-to-many set, cleared first": lambda n: n.tag.story_set.set([n.stories[1]], clear=True),
    "foreign key set": lambda n: n.photo.story_set.set([]),
    "foreign key set of others": lambda n: n.photo.story_set.set([n.stories[1]]),
    "foreign key set one by one": lambda n: n.photo.story_set.set([], bulk=False),
    "foreign key clear": lambda n: n.section.story_set.clear(),
}


class TestAllOrNothing:
    @pytest.mark.parametrize(
        "write", [*DELETIONS.values(), *RELATIONS.values()], ids=[*DELETIONS, *RELATIONS]
    )
    def test_a_refusal_of_one_leaves_everything_and_the_transaction_usable(self, news, write):
        before = everything()
        with transaction.atomic():
            with locked(news.stories[1]), hold_lock(news.stories[0]), pytest.raises(ObjectLocked):
                write(news)
            Article.objects.create(title="in the same transaction")
            assert everything() == before
        assert everything() == before
        assert Article.objects.exists()

    def play(self, write):
        """Return what the write returns and leaves, and undo it."""
        try:
            with transaction.atomic():
                played = write(News()), everything()
                raise Undone
        except Undone:
            return played

    @pytest.mark.parametrize(
        "write", [*DELETIONS.values(), *RELATIONS.values()], ids=[*DELETIONS, *RELATIONS]
    )
    def test_with_all_locks_it_is_done_and_counted_as_django_does(self, news, enforce, write):
        enforce()
        before, plain = everything(), self.play(write)
        enforce(**ENFORCED)
        with locked(*news.stories):
            assert self.play(write) == plain
        assert plain[1] != before == everything()

    @pytest.mark.parametrize(
        "write", [*DELETIONS.values(), *RELATIONS.values()], ids=[*DELETIONS, *RELATIONS]
    )
    def test_without_the_guard_it_is_done(self, news, enforce, write):
        # The negative control.
        enforce()
        before = everything()
        write(news)
        assert everything() != before


class TestLocksOfWhatIsDeleted:
    """The next object with the same key is free."""

    BLOCKS = {
        "locked": lambda objects: locked(*objects),
        "suspended": lambda objects: suspended(reason="the test"),
    }

    @pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
    @pytest.mark.parametrize(
        "write",
        [DELETIONS["section"], DELETIONS["sections"], DELETIONS["queryset"], DELETIONS["related"]],
    )
    def test_are_gone_with_them(self, news, block, write):
        kept = Story.objects.create(slug="kept")
        LockableModel.lock(kept)
        gone = [*news.stories, *Correction.objects.all(), *Reply.objects.all()]
        with block(news.stories):
            for obj in gone if block is self.BLOCKS["suspended"] else gone[2:]:
                LockableModel.lock(obj)
            if write is DELETIONS["queryset"]:
                Story.objects.exclude(pk=kept.pk).delete()
            else:
                write(news)
        [lock] = LockToken.objects.all()
        assert lock.locked_object == kept

    def test_are_gone_in_one_statement(self, news):
        with locked(*news.stories), connection.execute_wrapper(watch := Watch()):
            news.section.delete()
        assert len([sql for sql in watch.statements if "DELETE" in sql and LOCKS in sql]) == 1

    @pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
    def test_of_each_shape(self, enforce, block):
        enforce("app.Place", "app.Shop", "app.Slug", "app.Profile")
        article = Article.objects.create(title="a")
        objects = [
            Slug.objects.create(slug="A/b c"),
            Restaurant.objects.create(name="a"),
            Museum.objects.create(name="a"),
            Profile.objects.create(article=article),
        ]
        with block(objects):
            Slug.objects.all().delete()
            article.delete()
            Place.objects.filter(restaurant=objects[1]).delete()
            objects[2].delete()
        assert not LockToken.objects.exists()
        assert not Place.objects.exists()

    def test_stay_when_the_deletion_is_rolled_back(self, news):
        with locked(*news.stories):
            with transaction.atomic():
                news.section.delete()
                transaction.set_rollback(True)
            assert LockToken.objects.count() == 2

    def test_of_lockable_objects_that_are_not_enforced_go_too(self):
        pages = [Page.objects.create(title="a") for _ in range(3)]
        for page in pages:
            page.lock()
        Page.objects.exclude(pk=pages[0].pk).delete()
        assert LockToken.objects.get().locked_object == pages[0]


LOCKS = "lock_tokens_locktoken"


class Watch:
    def __init__(self):
        self.statements = []

    def __call__(self, execute, sql, params, many, context):
        self.statements.append(sql)
        return execute(sql, params, many, context)


class TestADeleteOfTheProjectsOwn:
    @pytest.mark.parametrize("delete", [lambda o: o.delete(), lambda o: o.delete(archive=True)])
    def test_of_an_instance(self, enforce, delete):
        enforce("app.Archived")
        obj = Archived.objects.create(name="old")
        with pytest.raises(LockRequired):
            delete(obj)
        assert Archived.objects.filter(archived=False).exists()
        with locked(obj):
            delete(obj)
        assert not Archived.objects.filter(archived=False).exists()

    def test_that_calls_djangos(self, enforce):
        enforce("app.Custom")
        obj = Custom.objects.create(name="old")
        for write in (obj.delete, lambda: Custom.objects.all().delete()):
            with pytest.raises(LockRequired):
                write()
        assert Custom.objects.exists()
        with locked(obj):
            obj.delete()
        assert not Custom.objects.exists()
        assert not LockToken.objects.exists()

    def test_of_a_queryset_that_only_marks_the_rows(self, enforce):
        enforce("app.Kept")
        kept = [Kept.objects.create() for _ in range(2)]
        for rows in (Kept.objects.all(), Kept.objects.filter(pk=kept[0].pk)):
            with pytest.raises(LockRequired):
                rows.delete()
        assert not Kept.objects.filter(kept=True).exists()
        with locked(*kept):
            assert Kept.objects.all().delete() == 2
        assert Kept.objects.filter(kept=True).count() == 2

    @pytest.mark.parametrize(
        "write", [lambda drawer: drawer.delete(), lambda drawer: Drawer.objects.all().delete()]
    )
    def test_of_what_cascades_to_enforced_rows(self, enforce, write):
        enforce("app.Folder")
        drawer = Drawer.objects.create()
        folder = Folder.objects.create(drawer=drawer)
        with transaction.atomic():
            with pytest.raises(LockRequired):
                write(drawer)
            # What it had done before the refusal is undone with it.
            assert list(Drawer.objects.values_list("name", flat=True)) == ["old"]
        assert Folder.objects.exists()
        with locked(folder):
            write(drawer)
        assert not Drawer.objects.exists()
        assert not Folder.objects.exists()


class TestWhatDjangoRefuses:
    @pytest.fixture
    def folder(self):
        return Folder.objects.create(drawer=Drawer.objects.create())

    @pytest.mark.parametrize(
        ("field", "error"), [("folder", ProtectedError), ("copy_of", RestrictedError)]
    )
    @pytest.mark.parametrize(
        "write",
        [
            lambda: Folder.objects.get().delete(),
            lambda: Folder.objects.all().delete(),
            lambda: Drawer.objects.get().delete(),
            lambda: Drawer.objects.all().delete(),
        ],
    )
    def test_is_refused_with_its_own_error(self, folder, enforce, field, error, write):
        paper = Paper.objects.create(**{field: folder})
        enforce()
        with pytest.raises(error) as expected, transaction.atomic():
            write()
        enforce("app.Folder", "app.Paper")
        for block in (nullcontext(), locked(folder, paper)):
            with block, pytest.raises(error) as caught, transaction.atomic():
                write()
            assert str(caught.value) == str(expected.value)
        assert Folder.objects.exists()

    def test_what_is_restricted_may_be_deleted_with_what_restricts_it(self, folder, enforce):
        enforce("app.Folder")
        other = Folder.objects.create(drawer=folder.drawer)
        with pytest.raises(LockRequired):
            Drawer.objects.all().delete()
        with locked(folder, other):
            Drawer.objects.all().delete()
        assert not Folder.objects.exists()


class TestEveryOnDelete:
    def test_one_of_the_project(self, enforce):
        enforce("app.Folder")
        person = Person.objects.create(name="a")
        folders = [Folder.objects.create(owner=person) for _ in range(2)]
        with locked(folders[0]):
            for write in (person.delete, Person.objects.all().delete):
                with pytest.raises(LockRequired) as caught:
                    write()
                assert caught.value.pk == folders[1].pk
        assert Folder.objects.filter(owner=person).count() == 2
        with locked(*folders):
            person.delete()
        assert Folder.objects.filter(owner=None).count() == 2

    @pytest.mark.parametrize(
        "write", [lambda folder: folder.delete(), lambda folder: Folder.objects.all().delete()]
    )
    def test_a_generic_relation(self, enforce, write):
        enforce("app.Label")
        folder = Folder.objects.create()
        labels = [Label.objects.create(on=folder) for _ in range(2)]
        other = Label.objects.create(
            content_type=ContentType.objects.get_for_model(Article), object_id=folder.pk
        )
        with locked(labels[0], other), pytest.raises(LockRequired) as caught:
            write(folder)
        assert caught.value.pk == labels[1].pk
        assert Folder.objects.exists()
        with locked(*labels):
            write(folder)
        assert Label.objects.get() == other

    def test_exempt_fields(self, enforce):
        enforce(**{"app.Folder": {"EXEMPT_FIELDS": ["owner"]}})
        person = Person.objects.create(name="a")
        Folder.objects.create(owner=person)
        person.delete()
        assert Folder.objects.get().owner is None


class TestParents:
    @pytest.fixture
    def restaurant(self, enforce):
        enforce("app.Place")
        return Restaurant.objects.create(name="a")

    def test_go_with_their_child(self, restaurant):
        for write in (restaurant.delete, Restaurant.objects.all().delete):
            with pytest.raises(LockRequired):
                write()
        with locked(restaurant):
            assert restaurant.delete() == (2, {"app.Restaurant": 1, "app.Place": 1})
        assert not Place.objects.exists()

    def test_may_be_kept(self, restaurant):
        with pytest.raises(LockRequired):
            restaurant.delete(keep_parents=True)
        assert Restaurant.objects.exists()
        with locked(restaurant):
            assert restaurant.delete(keep_parents=True) == (1, {"app.Restaurant": 1})
        assert Place.objects.exists()

    def test_are_two_for_a_row_that_has_two(self, enforce):
        enforce("app.Place", "app.Shop")
        cafe = Cafe.objects.create(name="a", sign="a", id=7, shop_id=8)
        place, shop = Place.objects.get(), Shop.objects.get()
        for held in (place, shop):
            with locked(held), pytest.raises(LockRequired):
                cafe.delete()
        with locked(place, shop):
            assert cafe.delete() == (3, {"app.Cafe": 1, "app.Place": 1, "app.Shop": 1})
        assert not LockToken.objects.exists()


class TestPoliciesOfWhatIsDeletedTogether:
    """The judgement of an object covers the rows it takes along only if it is as strict."""

    @pytest.fixture
    def story(self):
        with suspended(reason="fixture"):
            story = Story.objects.create(slug="a")
            Reply.objects.create(correction=Correction.objects.create(story=story))
        return story

    @pytest.fixture
    def profile(self):
        article = Article.objects.create(title="a")
        with suspended(reason="fixture"):
            return Profile.objects.create(article=article)

    LAX = {
        "not enforced": None,
        "respect": {"POLICY": "respect"},
        "report only": {"REPORT_ONLY": True},
    }

    @pytest.mark.parametrize("lax", LAX.values(), ids=LAX)
    def test_a_strict_via_is_no_less_strict_for_a_lax_object(self, profile, enforce, lax):
        article = profile.article
        enforce(**({"app.Article": lax} if lax else {}), **{"app.Profile": {"VIA": "article"}})
        for write in (article.delete, Article.objects.all().delete):
            with pytest.raises(LockRequired):
                write()
        assert Profile.objects.exists()
        with locked(article):
            article.delete()
        assert not Profile.objects.exists()

    @pytest.mark.parametrize("lax", LAX.values(), ids=LAX)
    def test_nor_for_a_lax_object_on_its_way(self, story, enforce, lax):
        strict = {"app.Story": {}, "app.Reply": {"VIA": "correction.story"}}
        enforce(**strict, **({"app.Correction": {"VIA": "story", **lax}} if lax else {}))
        correction = Correction.objects.get()
        for write in (correction.delete, Correction.objects.all().delete):
            with pytest.raises(LockRequired):
                write()
        assert Reply.objects.exists()
        with locked(story):
            correction.delete()
        assert not Reply.objects.exists()

    def test_a_strict_object_is_no_less_strict_for_a_lax_via(self, profile, enforce):
        via = {"VIA": "article", "REPORT_ONLY": True}
        enforce(**{"app.Article": {}, "app.Profile": via})
        with pytest.raises(LockRequired):
            profile.article.delete()
        assert Profile.objects.exists()

    def test_suspending_the_object_does_not_suspend_them(self, profile, enforce):
        article = profile.article
        enforce(**{"app.Article": {}, "app.Profile": {"VIA": "article"}})
        for write in (article.delete, Article.objects.all().delete):
            for model in (Article, Profile):
                with suspended(model, reason="the test"), pytest.raises(LockRequired):
                    write()
        with suspended(Article, Profile, reason="the test"):
            article.delete()
        assert not Profile.objects.exists()

    def test_nor_does_suspending_what_is_on_the_way(self, story, enforce):
        enforce(**ENFORCED)
        correction = Correction.objects.get()
        with suspended(Correction, reason="the test"), pytest.raises(LockRequired):
            correction.delete()
        with suspended(Correction, Reply, reason="the test"):
            correction.delete()
        assert not Reply.objects.exists()

    def test_respect_lets_a_free_object_go_with_all(self, story, enforce):
        respect = {"POLICY": "respect"}
        enforce(**{"app.Story": respect, "app.Correction": {"VIA": "story", **respect}})
        with hold_lock(story), pytest.raises(ObjectLocked):
            story.delete()
        story.delete()
        assert not LockToken.objects.exists()

    def test_report_only_lets_all_go_and_reports(self, story, enforce, caplog):
        only = {"REPORT_ONLY": True}
        enforce(**{"app.Story": only, "app.Correction": {"VIA": "story", **only}})
        pk = story.pk
        story.delete()
        assert not Story.objects.exists()
        [record] = [r for r in caplog.records if r.name == "lock_tokens"]
        assert record.getMessage().startswith(f"LockRequired: app.Story {pk} (report only)")
