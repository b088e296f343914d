"""Few rows and many, and what a write of them costs more because they are enforced."""

import pickle
from contextlib import nullcontext

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import transaction

from lock_tokens.enforcement import suspended
from tests.app.models import Correction, Desk, Person, Photo, Reply, Section, Story, Tag


class Crowd:
    """So many stories, each with a tag, a correction and a reply; the first has all tags."""

    def __init__(self, size):
        self.section = Section.objects.create(name="a")
        self.photo, self.other_photo = (Photo.objects.create(name=name) for name in "ab")
        self.desk = Desk.objects.create(name="a")
        self.editor = Person.objects.create(name="a")
        made = [Story(slug=f"story-{n}", **self.relations) for n in range(size)]
        self.stories = list_of(Story, made)
        self.tags = list_of(Tag, [Tag(name=f"tag {n}") for n in range(size)])
        self.story, self.tag = self.stories[0], self.tags[0]
        self.other_story = Story.objects.create(slug="other")
        self.other_tag = Tag.objects.create(name="other")
        row = Story.tags.through
        row.objects.bulk_create([row(story=each, tag=self.tag) for each in self.stories])
        row.objects.bulk_create([row(story=self.story, tag=each) for each in self.tags[1:]])
        self.story.related.add(self.other_story)
        made = [Correction(story=each) for each in self.stories]
        self.corrections = list_of(Correction, made)
        Reply.objects.bulk_create([Reply(correction=each) for each in self.corrections])

    @property
    def relations(self):
        names = ("section", "photo", "desk", "editor")
        return {name: getattr(self, name) for name in names}


def list_of(model, made):
    """Store what was made, and return it with keys; MariaDB does not tell them all."""
    model.objects.bulk_create(made)
    return list(model.objects.order_by("pk"))


@pytest.fixture
def crowd(settings):
    def make(size):
        with suspended(reason="fixture"):
            return Crowd(size)

    for model in (Correction, Desk, Person, Photo, Reply, Section, Story, Tag):
        # Django remembers content types; a process asks for each of them once.
        ContentType.objects.get_for_model(model)
    return make


class Undone(Exception):  # noqa: N818
    """Rolls back what was only played."""


@pytest.fixture
def extra_statements(settings, count_statements):
    """Count the statements that a call needs more than it would if nothing were enforced."""

    def play(call, crowd):
        counts = []
        # A copy, because what is deleted loses its key.
        crowd = pickle.loads(pickle.dumps(crowd))  # noqa: S301 - made here
        try:
            with transaction.atomic():
                counts.append(count_statements(lambda: call(crowd)))
                raise Undone
        except Undone:
            return counts[0]

    def extra(call, crowd, block=nullcontext):
        enforced, settings.LOCK_TOKENS = settings.LOCK_TOKENS, {}
        bare = play(call, crowd)
        settings.LOCK_TOKENS = enforced
        with block():
            return play(call, crowd) - bare

    return extra
