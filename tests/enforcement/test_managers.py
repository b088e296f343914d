"""Related managers of guarded models, where they differ from Django's."""

import pytest
from django.core import serializers
from django.core.management import call_command

from lock_tokens.enforcement import suspended
from lock_tokens.exceptions import LockRequired
from tests.app.models import Shelf, Story, Tag

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
