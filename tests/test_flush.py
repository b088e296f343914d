"""Each test begins with an empty database, and with what a migration leaves in it."""

import pytest
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.core.management.color import no_style
from django.db import connection

from lock_tokens.models import LockableModel, LockToken
from tests.app.management.commands import flush
from tests.app.models import Article, Story, Tag

pytestmark = pytest.mark.django_db(transaction=True)


def end_a_test():
    """Do what Django does when a test that has no transaction of its own is over."""
    call_command(
        "flush",
        verbosity=0,
        interactive=False,
        reset_sequences=False,
        allow_cascade=False,
        inhibit_post_migrate=False,
    )


@pytest.fixture
def migrated():
    end_a_test()
    return flush.migrated("default")


def test_what_a_test_wrote_is_gone_and_the_rest_is_as_it_was(migrated, alice):
    LockableModel.lock(Article.objects.create())
    Story.objects.create(slug="a").tags.add(Tag.objects.create())
    group = Group.objects.create(name="a")
    group.permissions.add(Permission.objects.first())
    alice.groups.add(group)

    end_a_test()

    models = Article, LockToken, Story, Tag, Story.tags.through, Group, type(alice)
    assert not any(model.objects.exists() for model in models)
    assert not Group.permissions.through.objects.exists()
    assert flush.migrated("default") == migrated


def names():
    return set(Permission.objects.values_list("content_type__model", "codename", "name"))


@pytest.mark.parametrize(
    "change",
    [
        lambda: ContentType.objects.all().delete(),
        lambda: ContentType.objects.create(app_label="app", model="gone"),
        lambda: Permission.objects.first().delete(),
        lambda: Permission.objects.update(name="renamed"),
    ],
)
def test_what_a_test_changed_of_the_rest_is_mended(migrated, change):
    before = names()
    change()
    end_a_test()
    assert names() == before
    assert not ContentType.objects.filter(model="gone").exists()


def test_a_new_type_gets_a_new_key_although_sequences_were_reset(migrated):
    sequences = connection.introspection.sequence_list()
    if resets := connection.ops.sequence_reset_by_name_sql(no_style(), sequences):
        connection.ops.execute_sql_flush(resets)
    end_a_test()
    assert flush.migrated("default") == migrated
    last = ContentType.objects.latest("pk")
    assert ContentType.objects.create(app_label="app", model="new").pk > last.pk
