"""Whose deletion reaches enforced rows, found from the models alone."""

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models.signals import pre_delete

from lock_tokens.enforcement import receivers
from lock_tokens.enforcement.reach import reaching
from tests.app.models import (
    Article,
    Box,
    Correction,
    Desk,
    Drawer,
    Folder,
    Label,
    Museum,
    Paper,
    Person,
    Photo,
    Place,
    Profile,
    Reply,
    Section,
    Shelf,
    Shop,
    Slug,
    Story,
    Tag,
)


@pytest.mark.parametrize(
    ("root", "reaches", "does_not"),
    [
        # CASCADE, SET_NULL, SET_DEFAULT and SET.
        (Story, {Section, Photo, Desk, Person}, {Tag, Shelf, Correction, Slug}),
        # The rows between, from both sides, and what cascades to those on the way.
        (Story.tags.through, {Story, Tag, Section}, {Photo, Desk, Shelf}),
        (Shelf.stories.through, {Shelf, Story, Section}, {Photo, Desk, Tag}),
        # Several steps, which end where rows are changed and not deleted.
        (Reply, {Correction, Story, Section}, {Photo, Desk, Tag}),
        (Correction, {Story, Section}, {Photo, Desk, Reply}),
        # An on_delete of the project, a generic relation, PROTECT and RESTRICT.
        (Folder, {Drawer, Person}, {Paper, Label, Box}),
        (Label, {Folder, Drawer, Person, ContentType}, {Paper, Section}),
        (Paper, set(), {Folder, Drawer}),
        # A key that is a relation, the parents of a child, and what nothing refers from.
        (Profile, {Article}, {Place}),
        (Slug, set(), {Story, Section, Place}),
        (Group.permissions.through, {Group, Permission, ContentType}, {get_user_model()}),
    ],
)
def test_a_deletion_reaches_what_it_deletes_or_changes(root, reaches, does_not):
    found = reaching([root])
    assert reaches <= found
    assert not does_not & found


def test_several_roots_are_reached_together():
    assert reaching([Profile, Reply]) >= reaching([Profile]) | reaching([Reply])


def test_a_child_is_reached_through_all_its_parents():
    """It is known by the root of its first one, and its second one takes it along."""
    assert Shop in reaching([Place])


def test_what_reaches_nothing_is_left_alone(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Folder"]}
    reached = reaching([Folder]) | {Folder}
    wrapped = {model for model in apps.get_models() if hasattr(model.delete, "__wrapped__")}
    assert wrapped == {model for model in apps.get_models() if issubclass(model, tuple(reached))}


def test_what_feeds_is_wired_for_its_deletion_alone(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Folder"]}
    assert Drawer.save_base is models.Model.save_base
    assert pre_delete._live_receivers(Drawer) == ([], [])
    assert Drawer.delete.__wrapped__.__qualname__ == "Drawer.delete"
    assert Museum.delete is models.Model.delete
    receivers.disconnect()
    assert Drawer.delete.__qualname__ == "Drawer.delete"
    assert not hasattr(Drawer.delete, "__wrapped__")


@pytest.mark.parametrize("name", ["DB_CASCADE", "DB_SET_NULL", "DB_SET_DEFAULT", "DO_NOTHING"])
def test_what_django_does_not_do_itself_is_not_reached(name):
    """It happens out of sight; the documentation says so. The first three came with 6.1."""
    on_delete = getattr(models, name, models.DO_NOTHING)

    class Unseen(models.Model):
        drawer = models.ForeignKey(Drawer, on_delete, null=True, db_default=None)

        class Meta:
            app_label = "app"

    try:
        assert Drawer not in reaching([Unseen])
    finally:
        del apps.all_models["app"]["unseen"]
        apps.clear_cache()
