"""In the transaction that creates an object nobody else can have locked or changed it."""

from contextlib import nullcontext

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.db import transaction
from django.db.models.signals import pre_save
from django.forms import modelform_factory
from django.test import TestCase
from django.urls import path, reverse

from lock_tokens.enforcement import locked, suspended
from lock_tokens.exceptions import LockRequired, ObjectLocked
from lock_tokens.models import LockableModel
from lock_tokens.testing import hold_lock
from tests.app.models import Correction, Place, Restaurant, Slug, Story, Tag

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def enforced(settings):
    settings.LOCK_TOKENS = {
        "ENFORCED_MODELS": {
            "app.Story": {},
            "app.Correction": {"VIA": "story"},
            "app.Restaurant": {},
            "app.Slug": {},
            "auth.Group": {},
        }
    }


@pytest.fixture
def tag():
    return Tag.objects.create(name="a")


WRITES = {
    "save": lambda story, tag: story.save(),
    "update": lambda story, tag: Story.objects.filter(pk=story.pk).update(title="new"),
    "relation": lambda story, tag: story.tags.set([tag]),
    "relation from the other side": lambda story, tag: tag.story_set.add(story),
    "row that it protects": lambda story, tag: Correction.objects.create(story=story),
    "delete": lambda story, tag: story.delete(),
}


@pytest.fixture(params=WRITES)
def write(request):
    return WRITES[request.param]


def test_every_write_of_it_is_free_there(write, tag):
    with transaction.atomic():
        write(Story.objects.create(slug="a"), tag)


CREATIONS = {
    "create": lambda: Story.objects.create(slug="a"),
    "save": lambda: _saved(Story(slug="a")),
    "save with a key": lambda: _saved(Story(pk=7, slug="a")),
    "get_or_create": lambda: Story.objects.get_or_create(slug="a")[0],
    "update_or_create": lambda: Story.objects.update_or_create(slug="a")[0],
    "bulk_create": lambda: Story.objects.bulk_create([Story(slug="a")])[0],
}


def _saved(obj):
    obj.save()
    return obj


@pytest.mark.parametrize("create", CREATIONS)
def test_however_it_is_created(create, tag):
    with transaction.atomic():
        CREATIONS[create]()
        Story.objects.get(slug="a").tags.add(tag)
    assert Story.objects.get().tags.count() == 1


def test_a_multi_table_child_too():
    with transaction.atomic():
        restaurant = Restaurant.objects.create(name="a")
        Place.objects.filter(pk=restaurant.pk).update(name="b")


def test_no_longer_once_the_transaction_is_over(write, tag):
    with transaction.atomic():
        story = Story.objects.create(slug="a")
    with pytest.raises(LockRequired):
        write(story, tag)
    with transaction.atomic(), pytest.raises(LockRequired):
        write(story, tag)


def test_not_without_a_transaction_around_both(write, tag):
    story = Story.objects.create(slug="a")
    with pytest.raises(LockRequired):
        write(story, tag)


def test_not_what_the_transaction_only_changed(write, tag):
    story = Story.objects.create(slug="a")
    with transaction.atomic():
        with locked(story):
            story.save()
        with pytest.raises(LockRequired):
            write(story, tag)


def test_not_what_a_savepoint_took_back():
    with transaction.atomic():
        with transaction.atomic():
            Slug.objects.create(slug="key")
            transaction.set_rollback(True)
        with suspended(reason="somebody else"):
            Slug.objects.create(slug="key", name="old")
        with pytest.raises(LockRequired):
            Slug.objects.update(name="new")


def test_what_a_finished_savepoint_created_still_is():
    with transaction.atomic():
        with transaction.atomic():
            Slug.objects.create(slug="key")
        Slug.objects.update(name="new")


def test_not_while_somebody_else_has_the_lock(write, tag):
    with transaction.atomic():
        story = Story.objects.create(slug="a")
        with hold_lock(story), pytest.raises(ObjectLocked):
            write(story, tag)


@pytest.mark.django_db(transaction=True)
def test_a_creation_that_is_rolled_back_leaves_nothing():
    with transaction.atomic():
        Slug.objects.create(slug="key")
        transaction.set_rollback(True)
    with suspended(reason="somebody else"):
        Slug.objects.create(slug="key")
    with transaction.atomic(), pytest.raises(LockRequired):
        Slug.objects.update(name="new")


class TestInATestCase(TestCase):
    """Its transaction is none to the project's code: there the guard must be seen to refuse."""

    @classmethod
    def setUpTestData(cls):
        cls.story = Story.objects.create(slug="a")

    def test_an_object_of_the_test_is_guarded(self):
        with self.settings(LOCK_TOKENS={"ENFORCED_MODELS": ["app.Story"]}):
            for story in (self.story, Story.objects.create(slug="b")):
                with pytest.raises(LockRequired):
                    story.save()


urlpatterns = [path("admin/", admin.site.urls)]


class TestForms:
    @pytest.fixture(autouse=True)
    def site(self, settings):
        settings.ROOT_URLCONF = __name__

    def test_a_model_form_makes_an_object_with_its_relations(self, tag):
        form = modelform_factory(Story, fields=["slug", "title", "tags"])
        with transaction.atomic():
            story = form({"slug": "a", "title": "a", "tags": [tag.pk]}).save()
        assert list(story.tags.all()) == [tag]

    def test_the_admin_adds_one_with_its_relations(self, admin_client):
        permission = Permission.objects.first()
        values = {"name": "a", "permissions": [permission.pk]}
        assert admin_client.post(reverse("admin:auth_group_add"), values).status_code == 302
        assert list(Group.objects.get().permissions.all()) == [permission]

    def test_and_refuses_to_change_it_without_a_token(self, admin_client):
        group = Group.objects.create(name="old")
        url = reverse("admin:auth_group_change", args=[group.pk])
        assert admin_client.post(url, {"name": "new"}).status_code == 428
        token = LockableModel.lock(group)["token"]
        values = {"name": "new", "lock_token": token}
        assert admin_client.post(url, values).status_code == 302
        assert Group.objects.get().name == "new"


def test_costs_no_statement(assert_statements, tag):
    with transaction.atomic():
        story = Story.objects.create(slug="a")
        # The look at the lock, and the update.
        with assert_statements(2):
            story.save()


@pytest.mark.parametrize("options", [{"force_update": True}, {"update_fields": ["text"]}])
def test_a_row_that_is_gone_is_not_written_by_an_update(options):
    with transaction.atomic():
        story = Story.objects.create(slug="a")
        correction = Correction.objects.create(story=story)
        Correction.objects.get().delete()
    with locked(story), pytest.raises(LockRequired):
        correction.save(**options)
    assert not Correction.objects.exists()


@pytest.mark.django_db(transaction=True)
class TestAReceiverThatMovesWhatIsSaved:
    """What was judged is not what would be written."""

    @pytest.fixture
    def on_save(self):
        """Let a function change a correction when its save has been judged."""
        changes = []

        def receiver(instance, **kwargs):
            for change in changes:
                change(instance)

        pre_save.connect(receiver, sender=Correction)
        pre_save.connect(receiver, sender=Slug)
        yield changes.append
        pre_save.disconnect(receiver, sender=Correction)
        pre_save.disconnect(receiver, sender=Slug)

    @pytest.fixture(params=[nullcontext, transaction.atomic], ids=["autocommit", "atomic"])
    def block(self, request):
        return request.param

    def test_to_another_protector_is_refused(self, on_save, block):
        mine, other = Story.objects.create(slug="a"), Story.objects.create(slug="b")
        with locked(mine):
            correction = Correction.objects.create(story=mine)
            on_save(lambda instance: setattr(instance, "story", other))
            with pytest.raises(LockRequired, match="a receiver of pre_save changed"), block():
                correction.save()
        assert Correction.objects.get().story == mine

    def test_to_another_key_is_refused(self, on_save, block):
        mine, other = Slug.objects.create(slug="a"), Slug.objects.create(slug="b", name="old")
        on_save(lambda instance: setattr(instance, "slug", "b"))
        with locked(mine), pytest.raises(LockRequired, match="a receiver of pre_save"), block():
            Slug(slug="a", name="new").save(force_update=True)
        other.refresh_from_db()
        assert other.name == "old"

    def test_who_changes_other_fields_may(self, on_save):
        story = Story.objects.create(slug="a")
        on_save(lambda instance: setattr(instance, "text", "from a receiver"))
        with locked(story):
            Correction.objects.create(story=story)
        assert Correction.objects.get().text == "from a receiver"
