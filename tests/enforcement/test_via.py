"""VIA: a row is protected by the lock of the object that its foreign key names."""

from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import F, QuerySet, Value
from django.db.models.signals import pre_save
from django.forms import inlineformset_factory
from django.test import Client
from django.urls import path

from lock_tokens.enforcement import holding, locked, suspended
from lock_tokens.exceptions import LockRequired, ObjectLocked, StaleToken
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.testing import hold_lock
from tests.app.models import (
    AnyCase,
    Article,
    Correction,
    LongRemark,
    Remark,
    RemarkProxy,
    Reply,
    Restaurant,
    Slug,
    Story,
    StoryProxy,
    Uuid,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def enforce(settings):
    def enforce(**models):
        models = {f"app.{name}": options for name, options in models.items()}
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": models}

    return enforce


@pytest.fixture(autouse=True)
def protected(enforce):
    enforce(Correction={"VIA": "story"})


@pytest.fixture
def story():
    return Story.objects.create(slug="a")


@pytest.fixture
def other():
    return Story.objects.create(slug="b")


@pytest.fixture
def make():
    """Create rows that nobody guards."""

    def make(model, **values):
        with suspended(reason="fixture"):
            return model.objects.create(**values)

    return make


@pytest.fixture
def correction(story, make):
    return make(Correction, story=story)


def rows(*models):
    return {model: list(QuerySet(model).order_by("pk").values()) for model in models}


def assert_refused(write, *objects, kind=LockRequired):
    """Assert that ``write`` is refused for the sake of ``objects``."""
    before = rows(Correction, Reply, Remark, LongRemark, Story)
    with pytest.raises(kind) as caught:
        write()
    named = {f"{each.model_label} {each.pk}" for each in caught.value.refused}
    assert named == {f"{obj._meta.label} {obj.pk}" for obj in objects}
    assert rows(*before) == before


def assert_needs(write, *objects):
    """Assert that ``write`` needs the locks of ``objects``, of all of them and no others."""
    assert_refused(write, *objects)
    for obj in objects if len(objects) > 1 else ():
        with locked(obj):
            assert_refused(write, *(each for each in objects if each is not obj))
    before = rows(Correction, Reply, Remark, LongRemark)
    with locked(*objects):
        write()
    assert rows(*before) != before


# Every road -----------------------------------------------------------------------------------


def wait(method):
    async def call(*args, **kwargs):
        return await method(*args, **kwargs)

    return async_to_sync(call)


def fresh(model=Correction):
    return model.objects.order_by("pk").first()


def change(**values):
    row = fresh()
    for name, value in values.items():
        setattr(row, name, value)
    return row


WRITES = {
    "create": lambda story: Correction.objects.create(story=story),
    "save of a new one": lambda story: Correction(story=story).save(),
    "save under a key": lambda story: Correction(pk=1000, story=story).save(),
    "forced insert": lambda story: Correction(pk=1000, story=story).save(force_insert=True),
    "acreate": lambda story: wait(Correction.objects.acreate)(story=story),
    "get_or_create": lambda story: Correction.objects.get_or_create(story=story, text="x"),
    "update_or_create": lambda story: Correction.objects.update_or_create(story=story, text="x"),
    "bulk_create": lambda story: Correction.objects.bulk_create(
        [Correction(story=story), Correction()]
    ),
    "abulk_create": lambda story: wait(Correction.objects.abulk_create)([Correction(story=story)]),
    "bulk_create, ignoring": lambda story: Correction.objects.bulk_create(
        [Correction(story=story)], ignore_conflicts=True
    ),
    "save": lambda story: change(text="new").save(),
    "save of named fields": lambda story: change(text="new").save(update_fields=["text"]),
    "save with a deferred key": lambda story: Correction.objects.defer("story").update_or_create(
        pk=fresh().pk, defaults={"text": "new"}
    ),
    "save of what was not loaded": lambda story: Correction(
        pk=fresh().pk, story=story, text="new"
    ).save(),
    "update": lambda story: Correction.objects.update(text="new"),
    "update by a relation": lambda story: Correction.objects.filter(story__slug="a").update(
        text="new"
    ),
    "bulk_update": lambda story: Correction.objects.bulk_update([change(text="new")], ["text"]),
    "delete": lambda story: fresh().delete(),
    "adelete": lambda story: wait(fresh().adelete)(),
    "queryset delete": lambda story: Correction.objects.all().delete(),
    "related create": lambda story: story.correction_set.create(),
    "related add": lambda story: story.correction_set.add(Correction(), bulk=False),
    "related remove": lambda story: story.correction_set.remove(fresh()),
    "related remove, one by one": lambda story: story.correction_set.remove(fresh(), bulk=False),
    "related clear": lambda story: story.correction_set.clear(),
    "related set": lambda story: story.correction_set.set([]),
    "related update": lambda story: story.correction_set.update(text="new"),
    "related delete": lambda story: story.correction_set.all().delete(),
    "cascade": lambda story: story.delete(),
    "cascade of a queryset": lambda story: Story.objects.filter(slug="a").delete(),
    "base manager": lambda story: Correction._base_manager.update(text="new"),
}


class TestEveryRoad:
    @pytest.fixture(autouse=True)
    def given(self, correction):
        return correction

    @pytest.fixture(params=WRITES.values(), ids=WRITES)
    def write(self, request, story):
        return lambda: request.param(story)

    def test_needs_the_lock_of_the_object(self, write, story):
        assert_needs(write, story)

    def test_is_refused_while_somebody_else_has_it(self, write, story):
        with hold_lock(story):
            assert_refused(write, story, kind=ObjectLocked)

    def test_is_refused_with_a_stale_token(self, write, story):
        token = LockableModel.lock(story)["token"]
        LockableModel.unlock(story, token)
        with holding(token):
            assert_refused(write, story, kind=StaleToken)

    def test_is_not_opened_by_a_lock_of_its_own(self, write, story, correction):
        with locked(correction):
            assert_refused(write, story)

    def test_is_open_while_the_model_is_suspended(self, write):
        before = rows(Correction)
        with suspended(Correction, reason="the test"):
            write()
        assert rows(Correction) != before

    def test_is_not_opened_by_suspending_the_model_of_the_object(self, write, story):
        with suspended(Story, reason="the test"):
            assert_refused(write, story)

    def test_is_open_if_nothing_is_enforced(self, write, enforce):
        # The negative control of all that is refused above.
        enforce()
        before = rows(Correction)
        write()
        assert rows(Correction) != before


def save_moved(other):
    change(story=other).save()


def update_moved(other):
    Correction.objects.update(story=other)


MOVES = {
    "save": save_moved,
    "save by the key": lambda other: change(story_id=other.pk).save(),
    "save of named fields": lambda other: change(story=other).save(update_fields=["story"]),
    "save of columns": lambda other: change(story=other).save(update_fields=["story_id"]),
    "update": update_moved,
    "update by the key": lambda other: Correction.objects.update(story_id=other.pk),
    "bulk_update": lambda other: Correction.objects.bulk_update([change(story=other)], ["story"]),
    "related add": lambda other: other.correction_set.add(fresh()),
    "related add, one by one": lambda other: other.correction_set.add(fresh(), bulk=False),
    "related set": lambda other: other.correction_set.set([fresh()]),
    "save of what was not loaded": lambda other: Correction(pk=fresh().pk, story=other).save(),
    "update_or_create": lambda other: Correction.objects.update_or_create(
        pk=fresh().pk, defaults={"story": other}
    ),
}


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
class TestMoving:
    def test_needs_the_locks_of_both(self, move, story, other, correction):
        assert_needs(lambda: move(other), story, other)

    def test_of_a_loose_row_needs_its_own_and_that_of_the_object(self, move, other, make):
        loose = make(Correction)
        assert_needs(lambda: move(other), loose, other)


class TestANullForeignKey:
    @pytest.fixture
    def loose(self, make):
        return make(Correction)

    def test_leaves_the_row_under_its_own_lock(self, loose):
        assert_needs(lambda: change(text="new").save(), loose)
        assert_needs(lambda: Correction.objects.update(text="newer"), loose)
        assert_needs(lambda: fresh().delete(), loose)

    def test_lets_the_row_be_created_without_any(self):
        Correction.objects.create()
        Correction.objects.bulk_create([Correction(), Correction()])
        assert QuerySet(Correction).count() == 3

    def test_needs_the_objects_lock_to_be_set(self, story, correction):
        assert_needs(lambda: change(story=None).save(), story)

    def test_each_row_of_a_bulk_write_needs_what_it_needs(self, story, correction, loose):
        assert_needs(lambda: Correction.objects.update(text="new"), story, loose)

    def test_a_lock_of_its_own_goes_with_the_row(self, loose):
        with locked(loose):
            loose.delete()
        assert not LockToken.objects.exists()


# The path -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "models",
    [
        {"Reply": {"VIA": "correction.story"}},
        {"Reply": {"VIA": "correction__story"}},
        {"Reply": {"VIA": "correction"}, "Correction": {"VIA": "story"}},
        {"Correction": {"VIA": "story"}, "Reply": {"VIA": "correction"}, "Story": {}},
    ],
    ids=["dots", "underscores", "in turn", "in turn, to an enforced one"],
)
class TestTwoHops:
    @pytest.fixture(autouse=True)
    def far(self, models, enforce):
        enforce(**models)

    @pytest.fixture
    def reply(self, correction, make):
        return make(Reply, correction=correction)

    @pytest.fixture
    def elsewhere(self, other, make):
        return make(Correction, story=other)

    @pytest.mark.parametrize(
        "write",
        [
            lambda correction: Reply.objects.create(correction=correction),
            lambda correction: Reply.objects.bulk_create([Reply(correction=correction)] * 2),
            lambda correction: correction.reply_set.create(),
            lambda correction: Reply(pk=fresh(Reply).pk, correction=correction).save(),
            lambda correction: fresh(Reply).delete(),
            lambda correction: Reply.objects.update(text="new"),
            lambda correction: Reply.objects.all().delete(),
            lambda correction: fresh(Correction).delete(),
            lambda correction: Story.objects.filter(slug="a").delete(),
        ],
        ids=[
            "create",
            "bulk_create",
            "related create",
            "save",
            "delete",
            "update",
            "queryset delete",
            "cascade",
            "cascade from the end",
        ],
    )
    def test_need_the_lock_at_the_end(self, write, story, correction, reply):
        QuerySet(Reply).update(text="something else")
        assert_needs(lambda: write(correction), story)

    @pytest.mark.parametrize(
        "move",
        [
            lambda to: Reply(pk=fresh(Reply).pk, correction=to).save(),
            lambda to: Reply.objects.update(correction=to),
            lambda to: to.reply_set.add(fresh(Reply)),
            lambda to: Reply.objects.bulk_update([Reply(fresh(Reply).pk, to.pk)], ["correction"]),
        ],
        ids=["save", "update", "related add", "bulk_update"],
    )
    def test_need_both_ends_to_be_moved(self, move, story, other, reply, elsewhere):
        assert_needs(lambda: move(elsewhere), story, other)

    def test_end_where_a_foreign_key_on_the_way_is_null(self, make):
        loose = make(Correction)
        reply = make(Reply, correction=loose)
        Reply.objects.create(correction=loose)
        assert_needs(lambda: Reply.objects.filter(pk=reply.pk).update(text="new"), reply)


class TestWhatTheForeignKeyMayReferTo:
    """Objects with every shape of key, by every kind of foreign key."""

    OBJECTS = {
        "story": lambda slug: Story.objects.create(slug=slug),
        "proxy": lambda slug: StoryProxy.objects.create(slug=slug),
        "restaurant": lambda slug: Restaurant.objects.create(name=slug),
        "uuid": lambda slug: Uuid.objects.create(id=UUID(int=ord(slug)), name=slug),
        "slug": lambda slug: Slug.objects.create(slug=f"A/b {slug}"),
        "any_case": lambda slug: AnyCase.objects.create(code=slug),
    }

    @pytest.fixture(params=OBJECTS)
    def name(self, request, enforce):
        enforce(Remark={"VIA": request.param})
        return request.param

    @pytest.fixture
    def given(self, name):
        """The object, as an error names it."""
        return self.as_locked(self.OBJECTS[name]("a"))

    @pytest.fixture
    def another(self, name):
        return self.as_locked(self.OBJECTS[name]("b"))

    def as_locked(self, obj):
        if isinstance(obj, Restaurant):
            return obj, obj.place_ptr
        return obj, Story.objects.get(pk=obj.pk) if isinstance(obj, StoryProxy) else obj

    def test_creating(self, name, given):
        obj, root = given
        assert_needs(lambda: Remark.objects.create(**{name: obj}), root)
        assert_needs(lambda: Remark.objects.bulk_create([Remark(**{name: obj})]), root)

    def test_changing_and_deleting(self, name, given, make):
        obj, root = given
        pk = make(Remark, **{name: obj}).pk
        assert_needs(lambda: Remark(pk=pk, text="new", **{name: obj}).save(), root)
        assert_needs(lambda: Remark.objects.filter(pk=pk).update(text="newer"), root)
        assert_needs(lambda: Remark.objects.get(pk=pk).delete(), root)

    def test_moving(self, name, given, another, make):
        (obj, root), (other, other_root) = given, another
        pk = make(Remark, **{name: obj}).pk
        assert_needs(lambda: Remark(pk=pk, **{name: other}).save(), root, other_root)
        assert_needs(lambda: Remark.objects.update(**{name: obj}), root, other_root)

    def test_the_cascade_of_the_object(self, name, given, make):
        obj, root = given
        make(Remark, **{name: obj})
        assert_needs(obj.delete, root)


class TestASpellingOfItsOwn:
    """The database may find an object by a key that is not written as it is stored."""

    # On PostgreSQL keys are what they are.
    if connection.vendor != "postgresql":

        def test_of_a_text_key_leads_to_the_same_lock(self, enforce, make):
            enforce(Remark={"VIA": "any_case"})
            obj = AnyCase.objects.create(code="Abc")
            assert_needs(lambda: Remark.objects.create(any_case_id="ABC"), obj)
            assert_needs(lambda: Remark.objects.update(text="new"), obj)

    @pytest.mark.parametrize("via", ["story", "correction.story"])
    def test_of_a_number_leads_to_the_same_lock(self, enforce, story, correction, via):
        model, name, key = (
            (Correction, "story_id", story.pk)
            if via == "story"
            else (Reply, "correction_id", correction.pk)
        )
        enforce(**{model.__name__: {"VIA": via}})
        assert_needs(lambda: model.objects.create(**{name: str(key)}), story)
        assert_needs(lambda: model.objects.bulk_create([model(**{name: str(key)})]), story)
        QuerySet(model).update(text="something else")
        assert_needs(lambda: model.objects.update(**{name: str(key), "text": "new"}), story)

    def test_of_a_unique_text_leads_to_the_same_lock(self, enforce, story):
        enforce(Remark={"VIA": "story"})
        if connection.vendor == "mysql":
            assert_needs(lambda: Remark.objects.create(story_id="A"), story)
        assert_needs(lambda: Remark.objects.create(story_id="a"), story)


class TestInheritance:
    @pytest.fixture
    def article(self):
        return Article.objects.create(title="a")

    @pytest.fixture
    def place(self):
        return Restaurant.objects.create(name="a")

    def test_a_proxy_stands_for_its_model(self, enforce, place, make):
        enforce(RemarkProxy={"VIA": "restaurant"})
        make(Remark, restaurant=place)
        root = place.place_ptr
        assert_needs(lambda: RemarkProxy.objects.create(restaurant=place), root)
        assert_needs(lambda: Remark.objects.create(restaurant=place), root)
        assert_needs(lambda: RemarkProxy.objects.update(text="new"), root)
        assert_needs(lambda: Remark.objects.update(text="newer"), root)

    def test_a_child_may_be_protected_by_a_foreign_key_of_its_parent(self, enforce, place, make):
        enforce(LongRemark={"VIA": "restaurant"})
        root = place.place_ptr
        pk = make(LongRemark, restaurant=place).pk
        assert_needs(lambda: LongRemark.objects.create(restaurant=place), root)
        assert_needs(lambda: LongRemark.objects.filter(pk=pk).update(more="new"), root)
        assert_needs(lambda: LongRemark.objects.get(pk=pk).delete(), root)

    @pytest.mark.parametrize("via", ["chapter", "restaurant"])
    def test_its_row_in_the_table_of_the_parent_is_protected_too(
        self, enforce, place, article, make, via
    ):
        enforce(LongRemark={"VIA": via})
        pk = make(LongRemark, restaurant=place, chapter=article).pk
        protector = article if via == "chapter" else place.place_ptr
        assert_needs(lambda: Remark(pk=pk, restaurant=place, text="new").save(), protector)
        assert_needs(lambda: Remark.objects.update(text="newer"), protector)
        assert_needs(lambda: Remark.objects.get().delete(), protector)

    def test_rows_of_the_parent_that_are_no_child_are_free(self, enforce, place):
        enforce(LongRemark={"VIA": "restaurant"})
        remark = Remark.objects.create(restaurant=place)
        remark.save()
        Remark.objects.update(text="new")
        remark.delete()

    def test_a_child_is_protected_as_its_parent_is(self, enforce, place, article, make):
        enforce(Remark={"VIA": "restaurant"})
        pk = make(LongRemark, restaurant=place, chapter=article).pk
        root = place.place_ptr
        assert_needs(lambda: LongRemark.objects.create(restaurant=place), root)
        assert_needs(lambda: LongRemark.objects.filter(pk=pk).update(more="new"), root)

    def test_moving_by_a_foreign_key_of_the_child(self, enforce, article, make):
        enforce(LongRemark={"VIA": "chapter"})
        other = Article.objects.create(title="b")
        pk = make(LongRemark, chapter=article).pk
        assert_needs(lambda: LongRemark.objects.update(chapter=other), article, other)
        assert_needs(lambda: LongRemark(pk=pk, chapter=article).save(), article, other)


class TestDeferredForeignKey:
    def test_is_read_from_the_database(self, story, correction):
        row = Correction.objects.defer("story").get()
        row.text = "new"
        assert_refused(row.save, story)
        assert row.get_deferred_fields() == {"story_id"}
        with locked(story):
            row.save()
        assert fresh().text == "new"

    def test_may_be_assigned(self, story, other, correction):
        row = Correction.objects.only("text").get()
        row.story = other
        assert_needs(row.save, story, other)


class TestTheForeignKeyInMemory:
    """What an instance says does not count for the row as it is stored."""

    def test_does_not_open_a_row_that_has_been_moved_since(self, story, other, correction):
        QuerySet(Correction).update(story=other)
        correction.text = "new"
        with locked(story):
            assert_refused(correction.save, other)

    def test_does_not_count_where_it_is_not_saved(self, story, other, correction):
        correction.story, correction.text = other, "new"
        assert_needs(lambda: correction.save(update_fields=["text"]), story)

    def test_may_be_set_by_an_object_that_was_saved_later(self, make):
        late = Story(slug="late")
        correction = Correction(story=late)
        late.save()
        assert_needs(correction.save, late)


EXPRESSIONS = {
    "save": lambda: change(story_id=F("story_id") + 0).save(),
    "update": lambda: Correction.objects.update(story_id=F("story_id") + 0),
    "update by a value": lambda: Correction.objects.update(story_id=Value(1)),
    "bulk_update": lambda: Correction.objects.bulk_update(
        [change(story_id=F("story_id") + 0)], ["story"]
    ),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_a_new_foreign_key_that_is_an_expression_is_refused(name, story, correction, caplog):
    before = rows(Correction)
    with locked(story), pytest.raises(LockRequired) as caught:
        EXPRESSIONS[name]()
    row = (
        "A row of app.Correction"
        if name.split()[0] == "update"
        else f"app.Correction {correction.pk}"
    )
    assert str(caught.value) == (
        f"{row} was not written: story_id is an expression, so it cannot be known whose lock "
        "protects the row afterwards; assign the object itself."
    )
    assert rows(Correction) == before
    (message,) = caplog.messages
    assert message.startswith(f"LockRequired: app.Correction, by {__file__}:")


# The policies ---------------------------------------------------------------------------------


class TestPolicies:
    """The options of the row's model decide about the row, those of the object's about it."""

    def test_respect_lets_the_row_be_written_while_nobody_has_the_lock(self, enforce, story):
        enforce(Story={}, Correction={"VIA": "story", "POLICY": "respect"})
        correction = Correction.objects.create(story=story)
        correction.save()
        Correction.objects.update(text="new")
        with hold_lock(story):
            assert_refused(correction.save, story, kind=ObjectLocked)
            assert_refused(correction.delete, story, kind=ObjectLocked)
            assert_refused(lambda: Correction.objects.create(story=story), story, kind=ObjectLocked)
        correction.delete()
        assert not LockToken.objects.exists()

    def test_the_row_may_need_more_than_the_object(self, enforce, story, correction):
        enforce(Story={"POLICY": "respect"}, Correction={"VIA": "story"})
        story.save()
        assert_needs(lambda: change(text="new").save(), story)

    def test_report_only_of_the_object_is_not_that_of_the_row(self, enforce, story, correction):
        enforce(Story={"REPORT_ONLY": True}, Correction={"VIA": "story"})
        story.save()
        assert_needs(lambda: change(text="new").save(), story)

    @pytest.mark.parametrize("options", [{"POLICY": "respect"}, {"REPORT_ONLY": True}])
    @pytest.mark.parametrize("nested", ["save", "update", "delete"])
    def test_a_lax_row_is_no_way_to_the_object(self, enforce, story, correction, options, nested):
        enforce(Story={}, Correction={"VIA": "story", **options})

        def write_story(**kwargs):
            if nested == "update":
                Story.objects.update(title="new")
            else:
                getattr(story, nested)()

        pre_save.connect(write_story, sender=Correction)
        try:
            assert_refused(correction.save, story)
        finally:
            pre_save.disconnect(write_story, sender=Correction)
        correction.save()

    def test_deleting_the_object_needs_what_the_stricter_of_both_needs(
        self, enforce, story, correction
    ):
        enforce(Story={"POLICY": "respect"}, Correction={"VIA": "story"})
        assert_needs(story.delete, story)

    def test_the_row_that_the_object_refers_to_is_free(self, story, correction):
        """Only the named foreign key protects, and only in its direction."""
        story.title = "new"
        story.save()


# What is told ---------------------------------------------------------------------------------


class TestTheError:
    def test_says_what_is_protected_by_whose_lock(self, story, correction):
        with pytest.raises(LockRequired) as caught:
            correction.save()
        assert str(caught.value) == (
            f"app.Correction {correction.pk} is protected by the lock of app.Story {story.pk}. "
            f"app.Story {story.pk} was not written: lock it first and present the token "
            "(header, form field, session or lock_tokens.enforcement.locked)."
        )
        assert (caught.value.model_label, caught.value.pk) == ("app.Story", story.pk)
        assert caught.value.lock is None

    def test_of_a_new_row(self, story):
        with pytest.raises(LockRequired) as caught:
            Correction.objects.create(story=story)
        assert str(caught.value).startswith(
            f"A new app.Correction is protected by the lock of app.Story {story.pk}. "
        )

    def test_of_an_update(self, story, other, correction):
        with locked(story), pytest.raises(LockRequired) as caught:
            Correction.objects.update(story=other)
        assert str(caught.value).startswith(
            f"A row of app.Correction is protected by the lock of app.Story {other.pk}. "
        )

    def test_carries_the_lock_of_the_object(self, story, correction):
        with hold_lock(story):
            lock = LockToken.objects.get()
            with pytest.raises(ObjectLocked) as caught:
                correction.save()
            token = lock.token_str
        since = lock.locked_at.isoformat(sep=" ", timespec="seconds")
        until = lock.get_expiration_datetime().isoformat(sep=" ", timespec="seconds")
        assert (caught.value.lock.since, caught.value.lock.by) == (lock.locked_at, None)
        assert str(caught.value) == (
            f"app.Correction {correction.pk} is protected by the lock of app.Story {story.pk}. "
            f"app.Story {story.pk} was not written: it is locked and the token of that lock was "
            f"not presented. Locked since {since} until {until}."
        )
        assert token not in str(caught.value)

    def test_of_many_names_each_object_once(self, story, other, make):
        for each in (story, story, other):
            make(Correction, story=each)
        with pytest.raises(LockRequired) as caught:
            Correction.objects.update(text="new")
        named = [(error.model_label, error.pk) for error in caught.value.refused]
        assert sorted(named) == [("app.Story", story.pk), ("app.Story", other.pk)]
        assert str(caught.value).startswith("Nothing was written: 2 objects are refused, app.Story")


# What it costs --------------------------------------------------------------------------------


class TestCost:
    """Statements besides Django's own."""

    @pytest.fixture
    def cost(self, count_statements, settings):
        def cost(write):
            write()  # What is looked up once a process.
            guarded = count_statements(write)
            with suspended(reason="the cost of the write itself"):
                return guarded - count_statements(write)

        return cost

    def test_of_creating_is_the_look_at_the_lock(self, story, cost):
        with locked(story):
            assert cost(lambda: Correction.objects.create(story=story)) == 1
            assert cost(lambda: Correction.objects.bulk_create([Correction(story=story)] * 50)) == 1

    def test_of_changing_is_the_look_at_the_row_and_at_the_lock(self, story, correction, cost):
        with locked(story):
            assert cost(correction.save) == 2
            assert cost(lambda: correction.save(update_fields=["text"])) == 2

    def test_of_moving_too(self, story, other, correction, cost):
        with locked(story, other):
            assert cost(lambda: Correction.objects.update(story=other)) == 2

    @pytest.mark.parametrize("number", [2, 200])
    def test_of_bulk_writes_does_not_grow(self, story, number, cost):
        with locked(story):
            Correction.objects.bulk_create([Correction(story=story) for _ in range(number)])
            objects = list(Correction.objects.all())
            assert cost(lambda: Correction.objects.update(text="new")) == 2
            assert cost(lambda: Correction.objects.bulk_update(objects, ["text"])) == 2

    def test_of_a_second_hop_is_one_more(self, story, correction, enforce, make, cost):
        enforce(Reply={"VIA": "correction.story"})
        reply = make(Reply, correction=correction)
        with locked(story):
            assert cost(lambda: Reply.objects.create(correction=correction)) == 2
            assert cost(lambda: Reply.objects.filter(pk=reply.pk).update(text="new")) == 3

    def test_of_a_foreign_key_to_another_field_is_one_more(self, story, enforce, cost):
        enforce(Remark={"VIA": "story"})
        with locked(story):
            assert cost(lambda: Remark.objects.create(story=story)) == 2

    def test_of_a_row_that_is_under_no_lock_is_none(self, cost):
        assert cost(lambda: Correction.objects.create()) == 0


# Forms ----------------------------------------------------------------------------------------


def formset_data(prefix, *forms, initial=0):
    data = {f"{prefix}-TOTAL_FORMS": len(forms), f"{prefix}-INITIAL_FORMS": initial}
    for number, form in enumerate(forms):
        data.update({f"{prefix}-{number}-{name}": value for name, value in form.items()})
    return data


class TestInlineFormsets:
    Corrections = inlineformset_factory(Story, Correction, fields=["text"], extra=1)

    def saving(self, story, *forms, initial=0):
        def save():
            data = formset_data("correction_set", *forms, initial=initial)
            formset = self.Corrections(data, instance=Story.objects.get(pk=story.pk))
            assert formset.is_valid(), formset.errors
            formset.save()

        return save

    def test_adding(self, story):
        assert_needs(self.saving(story, {"text": "new"}), story)

    def test_changing(self, story, correction):
        form = {"id": correction.pk, "text": "new"}
        assert_needs(self.saving(story, form, initial=1), story)

    def test_deleting(self, story, correction):
        form = {"id": correction.pk, "text": "old", "DELETE": "on"}
        assert_needs(self.saving(story, form, initial=1), story)


class CorrectionInline(admin.TabularInline):
    model = Correction
    fields = ["text"]


class StoryAdmin(admin.ModelAdmin):
    fields = ["slug", "title"]
    inlines = [CorrectionInline]


site = admin.AdminSite(name="via")
site.register(Story, StoryAdmin)

urlpatterns = [path("admin/", site.urls)]


class TestTheAdmin:
    """Django's own admin, with inlines, where the form brings the token or does not."""

    @pytest.fixture
    def post(self, settings, story, correction):
        settings.ROOT_URLCONF = __name__
        client = Client()
        client.force_login(get_user_model().objects.create_superuser("alice"))

        def post(title, *forms, **more):
            data = {"slug": "a", "title": title, **more}
            data.update(formset_data("correction_set", *forms, initial=1))
            return client.post(f"/admin/app/story/{story.pk}/change/", data).status_code

        return post

    @pytest.fixture(params=["the rows only", "the object too"])
    def title(self, request, enforce):
        if request.param == "the rows only":
            enforce(Correction={"VIA": "story"})
            return "old"
        enforce(Correction={"VIA": "story"}, Story={})
        return "new"

    @pytest.fixture(params=["change", "add", "delete"])
    def forms(self, request, story, correction):
        form = {"id": correction.pk, "story": story.pk, "text": "old"}
        if request.param == "change":
            return [{**form, "text": "new"}]
        if request.param == "add":
            return [form, {"story": story.pk, "text": "new"}]
        return [{**form, "DELETE": "on"}]

    def test_without_the_token_is_refused(self, post, title, forms):
        before = rows(Story, Correction)
        assert post(title, *forms) == 428
        assert rows(Story, Correction) == before

    def test_with_the_token_is_saved(self, post, title, forms, story):
        before = rows(Correction)
        token = LockableModel.lock(story)["token"]
        assert post(title, *forms, lock_token=token) == 302
        assert rows(Correction) != before
        assert Story.objects.get().title == title

    def test_is_refused_while_somebody_else_has_the_lock(self, post, title, forms, story):
        before = rows(Story, Correction)
        with hold_lock(story):
            assert post(title, *forms) == 423
        assert rows(Story, Correction) == before

    def test_with_a_stale_token_is_refused(self, post, title, forms, story):
        token = LockableModel.lock(story)["token"]
        LockableModel.unlock(story, token)
        assert post(title, *forms, lock_token=token) == 412

    def test_that_changes_no_row_needs_none_for_it(self, post, enforce, story, correction):
        enforce(Correction={"VIA": "story"})
        form = {"id": correction.pk, "story": story.pk, "text": "old"}
        assert post("new", form) == 302
        assert Story.objects.get().title == "new"
