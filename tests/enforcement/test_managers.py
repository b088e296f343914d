"""Related managers of guarded models, where they differ from Django's."""

import pytest
from django.core import serializers
from django.core.management import call_command
from django.db import transaction
from django.db.models import Model

from lock_tokens.enforcement import locked, suspended
from lock_tokens.exceptions import LockRequired
from tests.app.models import Correction, Shelf, Story, Tag

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def enforced(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Story"]}


@pytest.fixture
def related():
    """A story, a tag of it and a shelf that it stands on."""
    story, tag = Story.objects.create(slug="a"), Tag.objects.create(name="a")
    shelf = Shelf.objects.create()
    with suspended(reason="fixture"):
        story.tags.add(tag)
        shelf.stories.add(story)
    return story, tag, shelf


def unrelate(story, shelf):
    with suspended(reason="fixture"):
        story.tags.clear()
        shelf.stories.clear()


@pytest.mark.parametrize("form", ["json", "xml"])
def test_deserialized_objects_bring_their_relations(related, form):
    story, tag, shelf = related
    data = serializers.serialize(form, related)
    unrelate(story, shelf)
    for deserialized in serializers.deserialize(form, data):
        deserialized.save()
    assert [*story.tags.all(), *shelf.stories.all()] == [tag, story]


def test_so_do_loaded_fixtures(related, tmp_path):
    story, tag, shelf = related
    fixture = tmp_path / "related.json"
    fixture.write_text(serializers.serialize("json", related))
    unrelate(story, shelf)
    call_command("loaddata", fixture, verbosity=0)
    assert [*story.tags.all(), *shelf.stories.all()] == [tag, story]


def test_nothing_of_a_fixture_lasts(related):
    story, *_ = related
    (deserialized,) = serializers.deserialize("json", serializers.serialize("json", [story]))
    deserialized.save()
    with pytest.raises(LockRequired):
        deserialized.object.tags.set([])
    assert story.tags.count() == 1


def test_a_delete_that_goes_round_the_wrapped_one_is_judged_by_its_signal(settings):
    settings.LOCK_TOKENS = {
        "ENFORCED_MODELS": {"app.Story": {}, "app.Correction": {"VIA": "story"}}
    }
    story = Story.objects.create(slug="a")
    with locked(story):
        correction = Correction.objects.create(story=story)
    for obj in (correction, story):
        with pytest.raises(LockRequired), transaction.atomic():
            Model.delete(obj)
    with locked(story):
        Model.delete(correction)
        Model.delete(story)
    assert not Story.objects.exists()
