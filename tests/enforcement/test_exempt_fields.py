"""A save that changes only exempt fields needs no token; any other does."""

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group, Permission, User
from django.contrib.auth.views import LoginView
from django.core.files.base import ContentFile
from django.db import connection
from django.db.models import F, QuerySet, Value
from django.db.models.functions import Concat
from django.db.models.signals import pre_save
from django.test import Client
from django.urls import path

from lock_tokens.enforcement import locked
from lock_tokens.exceptions import LockRequired, ObjectLocked
from lock_tokens.testing import hold_lock
from tests.app.models import (
    Correction,
    Person,
    Remark,
    Section,
    Sheet,
    StampedSheet,
    Story,
    StoryProxy,
    Tag,
)

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
NUMBER = UUID(int=7)

urlpatterns = [path("login/", LoginView.as_view(next_page="/"))]


@pytest.fixture
def enforce(settings):
    """Enforce one model with exempt fields."""

    def enforce(label, *fields, **options):
        options = {"EXEMPT_FIELDS": list(fields), **options}
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": {label: options}}

    return enforce


def stored(obj):
    return QuerySet(type(obj)).values().get(pk=obj.pk)


def assert_refused(write, obj, kind=LockRequired):
    before = stored(obj)
    with pytest.raises(kind):
        write()
    assert stored(obj) == before


def assert_free(write, obj, **expected):
    write()
    assert {name: stored(obj)[name] for name in expected} == expected


# Writes of the fields that they name ----------------------------------------------------------


def assign(obj, values):
    for name, value in values.items():
        setattr(obj, name, value)


def save(obj, values):
    assign(obj, values)
    obj.save(update_fields=[*values])


def asave(obj, values):
    assign(obj, values)
    async_to_sync(obj.asave)(update_fields=[*values])


def update(obj, values):
    type(obj).objects.filter(pk=obj.pk).update(**values)


def aupdate(obj, values):
    async_to_sync(type(obj).objects.filter(pk=obj.pk).aupdate)(**values)


def bulk_update(obj, values):
    assign(obj, values)
    type(obj).objects.bulk_update([obj], [*values])


def upsert(obj, values):
    assign(obj, values)
    targets = connection.features.supports_update_conflicts_with_target
    unique = {"unique_fields": ["pk"]} if targets else {}
    type(obj).objects.bulk_create([obj], update_conflicts=True, update_fields=[*values], **unique)


def update_or_create(obj, values):
    type(obj).objects.update_or_create(pk=obj.pk, defaults=values)


NAMING = [save, asave, update, aupdate, bulk_update, upsert, update_or_create]


@pytest.mark.parametrize("write", NAMING)
class TestAWriteOfNamedFields:
    @pytest.fixture
    def sheet(self, enforce):
        enforce("app.Sheet", "views", "changed", "section")
        return Sheet.objects.create()

    def test_of_exempt_ones_only_needs_no_token(self, write, sheet):
        assert_free(lambda: write(sheet, {"views": 5}), sheet, views=5)

    def test_needs_none_even_while_somebody_else_has_the_lock(self, write, sheet):
        with hold_lock(sheet):
            assert_free(lambda: write(sheet, {"views": 5}), sheet, views=5)

    @pytest.mark.parametrize("values", [{"title": "new"}, {"views": 5, "title": "new"}])
    def test_of_any_other_needs_one(self, write, sheet, values):
        assert_refused(lambda: write(sheet, values), sheet)
        with hold_lock(sheet):
            assert_refused(lambda: write(sheet, values), sheet, ObjectLocked)
        with locked(sheet):
            assert_free(lambda: write(sheet, values), sheet, **values)

    def test_of_any_other_is_open_once_nothing_is_enforced(self, write, sheet, settings):
        # The negative control of what is refused above.
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": {}}
        values = {"views": 5, "title": "new"}
        assert_free(lambda: write(sheet, values), sheet, **values)

    def test_of_a_foreign_key_is_known_by_the_object(self, write, sheet):
        section = Section.objects.create(name="a")
        assert_free(lambda: write(sheet, {"section": section}), sheet, section_id=section.pk)

    @pytest.mark.parametrize("exempt", ["section", "section_id"])
    def test_of_a_foreign_key_is_known_by_either_name(self, write, sheet, enforce, exempt):
        enforce("app.Sheet", exempt, "changed")
        section, other = Section.objects.create(name="a"), Section.objects.create(name="b")
        assert_free(lambda: write(sheet, {"section": section}), sheet, section_id=section.pk)
        if write is not upsert:  # Django wants the name of the field there.
            assert_free(lambda: write(sheet, {"section_id": other.pk}), sheet, section_id=other.pk)

    def test_may_give_them_expressions(self, write, sheet):
        if write is upsert:  # Django inserts no expression that reads a column.
            return
        assert_free(lambda: write(sheet, {"views": F("views") + 5}), sheet, views=5)
        assert_refused(lambda: write(sheet, {"title": Concat("title", Value("!"))}), sheet)


def test_an_upsert_of_exempt_fields_may_hit_rows_that_it_does_not_name(enforce):
    enforce("app.Story", "views")
    story = Story.objects.create(slug="a")
    targets = connection.features.supports_update_conflicts_with_target
    options = {"unique_fields": ["slug"]} if targets else {}
    Story.objects.bulk_create(
        [Story(slug="a", title="new", views=5), Story(slug="b", views=6)],
        update_conflicts=True,
        update_fields=["views"],
        **options,
    )
    assert (stored(story)["views"], stored(story)["title"]) == (5, "old")
    assert QuerySet(Story).get(slug="b").views == 6


# A plain save ---------------------------------------------------------------------------------


@pytest.fixture
def sheet(enforce):
    enforce("app.Sheet", "views", "changed")
    return Sheet.objects.create(at=NOON, data={"a": 1, "b": [1, 2]}, file="a.txt", number=NUMBER)


@pytest.fixture
def copy(sheet):
    """The same row, read from the database."""
    return Sheet.objects.get(pk=sheet.pk)


class TestAPlainSave:
    def test_that_changes_exempt_fields_only_needs_no_token(self, copy):
        copy.views = 5
        assert_free(copy.save, copy, views=5)

    def test_asynchronous_too(self, copy):
        copy.views = 5
        assert_free(async_to_sync(copy.asave), copy, views=5)

    def test_while_somebody_else_has_the_lock_too(self, copy):
        copy.views = 5
        with hold_lock(copy):
            assert_free(copy.save, copy, views=5)

    def test_of_an_object_that_was_never_read_needs_none_either(self, copy):
        values = {**stored(copy), "views": 5}
        assert_free(Sheet(**values).save, copy, views=5)
        assert_free(lambda: Sheet(**values).save(force_update=True), copy, views=5)

    def test_that_changes_another_field_too_needs_one(self, copy):
        copy.views, copy.title = 5, "new"
        assert_refused(copy.save, copy)
        with hold_lock(copy):
            assert_refused(copy.save, copy, ObjectLocked)
        with locked(copy):
            assert_free(copy.save, copy, views=5, title="new")

    def test_that_changes_nothing_needs_one(self, enforce):
        enforce("app.Story", "views")
        story = Story.objects.create(slug="a")
        assert_refused(story.save, story)
        assert_refused(Story.objects.get().save, story)

    def test_is_judged_by_what_is_stored_not_by_what_was_read(self, copy):
        QuerySet(Sheet).update(title="somebody else's")
        copy.views = 5
        assert_refused(copy.save, copy)

    def test_of_a_row_that_is_gone_writes_nothing(self, copy):
        QuerySet(Sheet)._raw_delete("default")
        copy.views = 5
        with pytest.raises(LockRequired):
            copy.save()
        assert not QuerySet(Sheet).exists()

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("price", "1.5"),
            ("price", 1.5),
            ("price", Decimal("1.500")),
            ("at", NOON.astimezone(timezone(timedelta(hours=2)))),
            ("number", str(NUMBER)),
            ("data", {"b": (1, 2), "a": 1}),
            ("file", "a.txt"),
            ("title", "old"),
        ],
    )
    def test_knows_a_value_that_is_only_spelt_differently(self, copy, field, value):
        copy.views = 5
        setattr(copy, field, value)
        assert_free(copy.save, copy, views=5)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("price", "1.51"),
            ("price", Decimal("1.501")),
            ("at", NOON + timedelta(microseconds=1)),
            ("at", None),
            ("number", None),
            ("number", UUID(int=8)),
            ("data", {"a": True, "b": [1, 2]}),
            ("data", {"a": 1.0, "b": [1, 2]}),
            ("data", {"a": 1, "b": [2, 1]}),
            ("data", None),
            ("file", ""),
            ("file", "b.txt"),
            ("title", "Old"),
            ("title", "old "),
            ("title", F("title")),
            ("price", F("price") * 1),
        ],
    )
    def test_knows_a_value_that_is_another(self, copy, field, value):
        copy.views = 5
        setattr(copy, field, value)
        assert_refused(copy.save, copy)

    def test_may_give_exempt_fields_an_expression(self, copy):
        copy.views = F("views") + 5
        assert_free(copy.save, copy, views=5)

    def test_knows_foreign_keys_by_the_object_and_by_the_key(self, enforce):
        enforce("app.Sheet", "section", "changed")
        sheet, section = Sheet.objects.create(), Section.objects.create(name="a")
        sheet.section = section
        assert_free(sheet.save, sheet, section_id=section.pk)
        sheet.section_id = None
        assert_free(sheet.save, sheet, section_id=None)
        sheet.section, sheet.title = section, "new"
        assert_refused(sheet.save, sheet)

    def test_of_more_fields_than_it_changes_is_judged_by_those_that_it_changes(self, copy):
        copy.views = 5
        named = ["views", "title", "section", "section_id"]
        assert_free(lambda: copy.save(update_fields=named), copy, views=5)
        assert_refused(lambda: copy.save(update_fields=named), copy)
        copy.views, copy.title = 6, "new"
        assert_refused(lambda: copy.save(update_fields=named), copy)
        assert_free(lambda: copy.save(update_fields=["views", "price"]), copy, views=6, title="old")

    def test_of_a_proxy_is_judged_as_its_model(self, enforce):
        enforce("app.Story", "views")
        story = StoryProxy.objects.create(slug="a")
        story.views = 5
        assert_free(story.save, story, views=5)
        story.title = "new"
        assert_refused(story.save, story)

    def test_costs_the_look_at_the_lock_and_one_at_the_row(self, copy, count_statements):
        copy.save(update_fields=["views"])
        copy.views = 5
        copy.save()
        copy.views = 6
        assert count_statements(copy.save) == 3
        assert count_statements(lambda: copy.save(update_fields=["views"])) == 1


class TestFieldsThatSetThemselves:
    """They count as changed by every plain save."""

    def test_auto_now_has_to_be_exempt_too(self, enforce):
        enforce("app.Sheet", "views")
        sheet = Sheet.objects.create()
        sheet.views = 5
        assert_refused(sheet.save, sheet)
        enforce("app.Sheet", "views", "changed")
        before = stored(sheet)["changed"]
        assert_free(sheet.save, sheet, views=5)
        assert stored(sheet)["changed"] > before

    def test_so_has_a_field_with_a_pre_save_of_its_own(self, enforce):
        enforce("app.StampedSheet", "views", "changed")
        sheet = StampedSheet.objects.create()
        sheet.views = 5
        assert_refused(sheet.save, sheet)
        enforce("app.StampedSheet", "views", "changed", "stamped")
        before = stored(sheet)["stamped"]
        assert_free(sheet.save, sheet, views=5)
        assert stored(sheet)["stamped"] > before


class TestFiles:
    @pytest.fixture(autouse=True)
    def media(self, settings, tmp_path):
        settings.MEDIA_ROOT = str(tmp_path)
        return tmp_path

    def test_an_exempt_one_may_be_uploaded(self, enforce):
        enforce("app.Sheet", "file", "changed")
        sheet = Sheet.objects.create()
        sheet.file = ContentFile("text", name="new.txt")
        assert_free(sheet.save, sheet, file="new.txt")

    def test_another_may_not_be_and_is_not_kept(self, copy, media):
        copy.views, copy.file = 5, ContentFile("text", name="a.txt")
        assert_refused(copy.save, copy)
        assert [*media.iterdir()] == []


class TestDeferredFields:
    def test_are_not_changed_by_a_plain_save(self, sheet):
        copy = Sheet.objects.defer("title", "data").get()
        copy.views = 5
        assert_free(copy.save, sheet, views=5)
        copy.price = 2
        assert_refused(copy.save, sheet)
        assert copy.get_deferred_fields() == {"title", "data"}

    def test_all_but_exempt_ones_may_be_deferred(self, sheet):
        copy = Sheet.objects.only("views").get()
        copy.views = 5
        assert_free(copy.save, sheet, views=5)

    def test_are_changed_by_assignment(self, sheet):
        copy = Sheet.objects.defer("title").get()
        copy.title = "new"
        assert_refused(copy.save, sheet)


class TestWhatHappensWithinTheSave:
    """Receivers may write more than what was judged."""

    @pytest.fixture
    def before_a_save(self):
        def connect(receiver):
            pre_save.connect(receiver, sender=Sheet, dispatch_uid="test")

        yield connect
        pre_save.disconnect(sender=Sheet, dispatch_uid="test")

    def test_what_a_receiver_sets_besides_is_not_written(self, copy, before_a_save):
        def retitle(instance, **kwargs):
            instance.title = "new"

        before_a_save(retitle)
        copy.views = 5
        assert_free(copy.save, copy, views=5, title="old")

    def test_it_would_be_if_nothing_were_enforced(self, copy, before_a_save, settings):
        def retitle(instance, **kwargs):
            instance.title = "new"

        settings.LOCK_TOKENS = {"ENFORCED_MODELS": {}}
        before_a_save(retitle)
        copy.views = 5
        assert_free(copy.save, copy, views=5, title="new")

    def test_another_save_of_the_same_row_is_judged_by_itself(self, copy, before_a_save):
        def save_again(instance, **kwargs):
            pre_save.disconnect(sender=Sheet, dispatch_uid="test")
            other = Sheet.objects.get()
            other.title = "new"
            other.save()

        before_a_save(save_again)
        copy.views = 5
        assert_refused(copy.save, copy)


class TestMultiTableChildren:
    EXEMPT = ("views", "columns", "changed", "stamped")

    @pytest.fixture
    def child(self, enforce):
        enforce("app.StampedSheet", *self.EXEMPT)
        return StampedSheet.objects.create()

    @pytest.mark.parametrize("field", ["views", "columns"])
    def test_fields_of_both_tables_may_be_exempt(self, child, field):
        setattr(child, field, 5)
        assert_free(child.save, child, **{field: 5})
        assert_free(lambda: update(child, {field: 6}), child, **{field: 6})
        assert_free(lambda: save(child, {field: 7}), child, **{field: 7})

    def test_the_fields_of_both_tables_are_compared(self, child):
        child.views, child.columns, child.title = 5, 5, "new"
        assert_refused(child.save, child)

    def test_the_row_of_the_parent_is_under_the_same_rule(self, child):
        parent = Sheet.objects.get()
        parent.views = 5
        assert_free(parent.save, child, views=5)
        parent.title = "new"
        assert_refused(parent.save, child)

    def test_what_the_parent_does_not_exempt_needs_its_lock(self, child, settings):
        models = {
            "app.Sheet": {"EXEMPT_FIELDS": ["views"]},
            "app.StampedSheet": {"EXEMPT_FIELDS": ["views", "columns"]},
        }
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": models}
        assert_free(lambda: save(child, {"views": 5}), child, views=5)
        assert_refused(lambda: save(child, {"columns": 5}), child)


class TestRelations:
    """A many-to-many relation may be exempt for one end, by each of the names it has there."""

    @pytest.fixture
    def group(self):
        return Group.objects.create(name="a")

    @pytest.fixture
    def user(self):
        return User.objects.create_user("alice")

    WRITES = {
        "from one side": lambda user, group: group.user_set.add(user),
        "from the other": lambda user, group: user.groups.add(group),
        "set": lambda user, group: user.groups.set([group]),
        "the row between": lambda user, group: User.groups.through.objects.create(
            user=user, group=group
        ),
    }

    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
    @pytest.mark.parametrize(
        ("label", "name"), [("auth.User", "groups"), ("auth.Group", "user_set")]
    )
    def test_needs_no_token_of_that_end(self, user, group, enforce, write, label, name):
        enforce(label)
        with pytest.raises(LockRequired):
            write(user, group)
        enforce(label, name)
        write(user, group)
        assert user.groups.get() == group
        user.groups.clear()
        assert not group.user_set.exists()

    @pytest.mark.parametrize("name", ["user_set", "user"])
    def test_is_known_by_the_accessor_and_by_the_name_in_queries(self, user, group, enforce, name):
        enforce("auth.Group", name)
        group.user_set.add(user)
        permission = Permission.objects.first()
        with pytest.raises(LockRequired):
            group.permissions.add(permission)
        group.name = "new"
        assert_refused(group.save, group)

    @pytest.mark.parametrize("name", ["read_remarks", "read"])
    def test_may_have_names_of_its_own(self, enforce, name):
        enforce("app.Person", name)
        person, remark = Person.objects.create(name="a"), Remark.objects.create()
        person.read_remarks.add(remark)
        remark.readers.clear()

    def test_is_still_protected_by_the_other_end(self, user, group, settings):
        models = {"auth.User": {"EXEMPT_FIELDS": ["groups"]}, "auth.Group": {}}
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": models}
        with locked(user), pytest.raises(LockRequired) as caught:
            user.groups.add(group)
        assert (caught.value.model_label, caught.value.pk) == ("auth.Group", group.pk)
        with locked(group):
            user.groups.add(group)

    def test_others_of_the_same_model_are_not_exempt(self, enforce):
        enforce("app.Story", "related")
        story, tag = Story.objects.create(slug="a"), Tag.objects.create(name="a")
        story.related.add(Story.objects.create(slug="b"))
        with pytest.raises(LockRequired):
            story.tags.add(tag)

    def test_of_a_model_that_is_protected_by_another(self, settings):
        story = Story.objects.create(slug="a")
        remark, person = Remark.objects.create(story=story), Person.objects.create(name="a")
        for exempt in ([], ["readers"]):
            options = {"VIA": "story", "EXEMPT_FIELDS": exempt}
            settings.LOCK_TOKENS = {"ENFORCED_MODELS": {"app.Remark": options}}
            if exempt:
                remark.readers.add(person)
            else:
                with pytest.raises(LockRequired):
                    remark.readers.add(person)
        assert remark.readers.get() == person


@pytest.mark.parametrize("write", NAMING)
def test_a_row_that_another_lock_protects_may_have_exempt_fields(enforce, write):
    story = Story.objects.create(slug="a")
    correction = Correction.objects.create(story=story)
    enforce("app.Correction", "seen", VIA="story")
    if write is upsert:
        # It might have to create the row, and that needs the lock.
        assert_refused(lambda: write(correction, {"seen": True}), correction)
    else:
        assert_free(lambda: write(correction, {"seen": True}), correction, seen=True)
    assert_refused(lambda: write(correction, {"text": "new", "seen": False}), correction)


class TestPlainSavesOfARowThatAnotherLockProtects:
    @pytest.fixture
    def story(self):
        return Story.objects.create(slug="a")

    @pytest.fixture
    def correction(self, story, enforce):
        correction = Correction.objects.create(story=story)
        enforce("app.Correction", "seen", VIA="story")
        return correction

    def test_need_no_token_for_exempt_fields_only(self, correction):
        correction.seen = True
        assert_free(correction.save, correction, seen=True)

    def test_need_one_to_change_more(self, correction):
        correction.seen, correction.text = True, "new"
        assert_refused(correction.save, correction)

    def test_need_one_to_move_it(self, correction, story):
        correction.seen, correction.story = True, Story.objects.create(slug="b")
        assert_refused(correction.save, correction)
        with locked(story):
            assert_refused(correction.save, correction)

    def test_need_one_to_create_it(self, correction, story):
        with pytest.raises(LockRequired):
            Correction.objects.create(story=story, seen=True)
        assert QuerySet(Correction).get() == correction


class TestLogin:
    """Logging in writes the time of it to the user."""

    @pytest.fixture
    def log_in(self, settings):
        settings.ROOT_URLCONF = __name__
        User.objects.create_user("alice", password="secret")
        return lambda: Client().post("/login/", {"username": "alice", "password": "secret"})

    def test_needs_no_token_where_last_login_is_exempt(self, log_in, enforce):
        enforce("auth.User", "last_login")
        assert log_in().status_code == 302
        user = QuerySet(User).get()
        assert user.last_login is not None
        user.email = "a@example.com"
        assert_refused(user.save, user)

    def test_needs_one_otherwise(self, log_in, enforce):
        enforce("auth.User")
        assert log_in().status_code == 428
        assert QuerySet(User).get().last_login is None
