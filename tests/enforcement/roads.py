"""Every way in which Django can change a row: what the tests play, and the documentation lists.

The code of each road is what the documentation shows, and what runs: it is executed with the
names of a ``World`` at hand.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from asgiref.sync import async_to_sync
from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection, models, transaction
from django.db.models import F

from lock_tokens.models import LockToken
from tests.app.models import (
    Authorship,
    Correction,
    Desk,
    Person,
    Photo,
    Place,
    Reply,
    Restaurant,
    Section,
    Shelf,
    Story,
    Tag,
)

ENFORCED = {
    "app.Story": {"EXEMPT_FIELDS": ["views"]},
    "app.Correction": {"VIA": "story"},
    "app.Reply": {"VIA": "correction.story"},
    "app.Place": {},
    "app.Restaurant": {},
    "auth.Group": {},
}


PLAYED = [
    Section,
    Photo,
    Desk,
    Person,
    Tag,
    Shelf,
    Story,
    Authorship,
    Correction,
    Reply,
    Place,
    Restaurant,
    Group,
]
RELATIONS = [Story.tags, Story.related, Shelf.stories, Group.permissions]


class World:
    """A story and all that it is related to; each attribute is read from the database anew."""

    def __init__(self) -> None:
        section, photo = Section.objects.create(name="a"), Photo.objects.create(name="a")
        desk, person = Desk.objects.create(name="a"), Person.objects.create(name="a")
        story = Story.objects.create(
            slug="a", section=section, photo=photo, desk=desk, editor=person
        )
        tag, shelf = Tag.objects.create(name="a"), Shelf.objects.create()
        story.tags.add(tag)
        shelf.stories.add(story)
        other = Story.objects.create(slug="b")
        friends = Story.objects.create(slug="c"), Story.objects.create(slug="d")
        friends[0].related.add(friends[1])
        correction = Correction.objects.create(story=story)
        group, granted = Group.objects.create(name="a"), new_permission("granted")
        group.permissions.add(granted)
        self.rows: dict[str, models.Model] = {
            "story": story,
            "other_story": other,
            "friend": friends[0],
            "other_friend": friends[1],
            "empty_shelf": Shelf.objects.create(),
            "section": section,
            "photo": photo,
            "desk": desk,
            "editor": person,
            "tag": tag,
            "shelf": shelf,
            "author": Person.objects.create(name="author"),
            "other_photo": Photo.objects.create(name="b"),
            "other_tag": Tag.objects.create(name="b"),
            "authorship": Authorship.objects.create(
                story=story, person=Person.objects.create(name="b")
            ),
            "correction": correction,
            "loose_correction": Correction.objects.create(),
            "reply": Reply.objects.create(correction=correction),
            "restaurant": Restaurant.objects.create(name="old"),
            "group": group,
            "permission": new_permission("other"),
            "granted": granted,
        }
        self.rows["place"] = Place.objects.get(pk=self.rows["restaurant"].pk)

    def names(self, used: Collection[str]) -> dict[str, Any]:
        """Return what the code of a road, which uses the names ``used``, may use."""
        models_ = {model.__name__: model for model in apps.get_app_config("app").get_models()}
        wanted = {name: row for name, row in self.rows.items() if name in used}
        rows = {name: type(row)._base_manager.get(pk=row.pk) for name, row in wanted.items()}
        return {
            **models_,
            **rows,
            "F": F,
            "wait": _wait,
            "Group": Group,
            "transaction": transaction,
        }


def new_permission(codename: str) -> Permission:
    content_type = ContentType.objects.get_for_model(Story)
    return Permission.objects.create(name="road", codename=codename, content_type=content_type)


def _wait(coroutine: Any) -> Any:
    async def waiting() -> Any:
        return await coroutine

    return async_to_sync(waiting)()


@dataclass(frozen=True)
class Road:
    """A way to a row: ``code`` changes what the locks of ``needs`` protect."""

    code: str
    needs: tuple[str, ...] = ("story",)
    # Whether the documentation shows it; variants of the same are only tested.
    shown: bool = True

    @cached_property
    def _compiled(self) -> Any:
        return compile(self.code, "a road", "exec")

    def __str__(self) -> str:
        return self.code.replace("\n", "; ")

    def take(self, world: World) -> None:
        exec(self._compiled, world.names(self._compiled.co_names))  # noqa: S102 - ours


def _roads(*codes: str, needs: tuple[str, ...] = ("story",), shown: bool = True) -> list[Road]:
    return [Road(code, needs, shown) for code in codes]


REFUSED: dict[str, list[Road]] = {
    "An instance": [
        *_roads(
            'story.title = "new"\nstory.save()',
            'story.title = "new"\nstory.save(update_fields=["title"])',
            'story.title = "new"\nstory.save(force_update=True)',
            'story.title = "new"\nwait(story.asave())',
            'Story(pk=story.pk, slug="new").save()',
            "story.delete()",
            "wait(story.adelete())",
            'Story.objects.only("slug").get(pk=story.pk).delete()',
            'StoryProxy(pk=story.pk, slug="new").save()',
            "StoryProxy.objects.get(pk=story.pk).delete()",
        ),
        Road('story.pk = other_story.pk\nstory.slug = "new"\nstory.save()', ("other_story",)),
        Road('place.name = "new"\nplace.save()', ("restaurant",)),
        Road('restaurant.name = "new"\nrestaurant.save()', ("restaurant",)),
        Road("place.delete()", ("restaurant",)),
    ],
    "A queryset": [
        *_roads(
            'Story.objects.filter(pk=story.pk).update(title="new")',
            'wait(Story.objects.filter(pk=story.pk).aupdate(title="new"))',
            'Story.objects.filter(pk=story.pk).update(views=F("views") + 1, title="new")',
            'story.title = "new"\nStory.objects.bulk_update([story], ["title"])',
            'story.title = "new"\nwait(Story.objects.abulk_update([story], ["title"]))',
            "Story.objects.filter(pk=story.pk).delete()",
            "wait(Story.objects.filter(pk=story.pk).adelete())",
            'Story.objects.update_or_create(pk=story.pk, defaults={"title": "new"})',
            'wait(Story.objects.aupdate_or_create(pk=story.pk, defaults={"title": "new"}))',
            'it, _ = Story.objects.get_or_create(pk=story.pk)\nit.title = "new"\nit.save()',
            'it = Story.objects.in_bulk([story.pk])[story.pk]\nit.title = "new"\nit.save()',
            'StoryProxy.objects.filter(pk=story.pk).update(title="new")',
            'Story.unpublished.filter(pk=story.pk).update(title="new")',
            "Story.objects.drafts().filter(pk=story.pk).publish()",
            'Story._base_manager.filter(pk=story.pk).update(title="new")',
            'Story._default_manager.filter(pk=story.pk).update(title="new")',
        ),
        *_roads(
            'Story.objects.filter(section__name="a").update(title="new")',
            'Story.objects.filter(tags__name="a").distinct().update(title="new")',
            'Story.objects.exclude(slug__gt="a").order_by("slug").update(title="new")',
            'Story.objects.filter(slug="a").annotate(t=F("slug")).update(title=F("t"))',
            '(Story.objects.filter(slug="a") | Story.objects.filter(slug="x")).update(title="new")',
            'Story.objects.select_related("section").filter(pk=story.pk).update(title="new")',
            'StoryProxy._base_manager.filter(pk=story.pk).update(title="new")',
            "Story.unpublished.filter(pk=story.pk).delete()",
            "Story._base_manager.filter(pk=story.pk).delete()",
            shown=False,
        ),
        Road('Restaurant.objects.filter(pk=restaurant.pk).update(name="new")', ("restaurant",)),
        Road('Place.objects.filter(pk=restaurant.pk).update(name="new")', ("restaurant",)),
        Road("Story.objects.filter(pk=other_story.pk).update(id=99)", ("other_story",)),
        Road("Story.objects.filter(pk=other_story.pk)._raw_delete('default')", ("other_story",)),
        Road('Group.objects.filter(pk=group.pk).update(name="new")', ("group",)),
        Road("Group.objects.filter(pk=group.pk).delete()", ("group",), shown=False),
    ],
    "A foreign key, from the other side": _roads(
        "other_photo.story_set.add(story)",
        "other_photo.story_set.add(story, bulk=False)",
        "wait(other_photo.story_set.aadd(story))",
        "photo.story_set.remove(story)",
        "photo.story_set.remove(story, bulk=False)",
        "photo.story_set.clear()",
        "photo.story_set.clear(bulk=False)",
        "photo.story_set.set([])",
        "other_photo.story_set.set([story])",
        "other_photo.story_set.set([story], clear=True)",
        'photo.story_set.update(title="new")',
        "photo.story_set.all().delete()",
        'photo.story_set.update_or_create(slug="a", defaults={"title": "new"})',
        'editor.edited_stories.update(title="new")',
    ),
    "A many-to-many relation, from both sides": [
        *_roads(
            "story.tags.add(other_tag)",
            "wait(story.tags.aadd(other_tag))",
            "story.tags.remove(tag)",
            "story.tags.clear()",
            "story.tags.set([other_tag])",
            "story.tags.set([other_tag], clear=True)",
            'story.tags.create(name="new")',
            'story.tags.get_or_create(name="new")',
            "other_tag.story_set.add(story)",
            "tag.story_set.remove(story)",
            "tag.story_set.clear()",
            "tag.story_set.set([])",
            "shelf.stories.remove(story)",
            "shelf.stories.clear()",
            "empty_shelf.stories.add(story)",
            "story.shelf_set.clear()",
            "story.authors.add(author)",
            "author.stories.add(story)",
            "story.authors.clear()",
        ),
        Road("friend.related.clear()", ("friend", "other_friend")),
        Road("friend.delete()", ("friend", "other_friend")),
        Road("group.permissions.add(permission)", ("group",)),
        Road("permission.group_set.add(group)", ("group",)),
    ],
    "The rows between": _roads(
        "Story.tags.through.objects.create(story=story, tag=other_tag)",
        "Story.tags.through(story=story, tag=other_tag).save()",
        "Story.tags.through.objects.bulk_create([Story.tags.through(story=story, tag=other_tag)])",
        "Story.tags.through.objects.filter(story=story).update(tag=other_tag)",
        "Story.tags.through.objects.filter(story=story).delete()",
        "Story.tags.through.objects.get(story=story).delete()",
        "Authorship.objects.create(story=story, person=author)",
        "authorship.share = 50\nauthorship.save()",
        "authorship.delete()",
        "Authorship.objects.filter(pk=authorship.pk).update(share=50)",
    ),
    "A deletion elsewhere": [
        *_roads(
            "section.delete()  # CASCADE",
            'Section.objects.filter(name="a").delete()',
            "photo.delete()  # SET_NULL",
            'Photo.objects.filter(name="a").delete()',
            "desk.delete()  # SET_DEFAULT",
            "editor.delete()  # SET(…)",
            "tag.delete()  # a row between",
            "Tag.objects.filter(pk=tag.pk).delete()",
            "shelf.delete()",
        ),
        Road("granted.delete()", ("group",), shown=False),
    ],
    "A model with VIA": [
        *_roads(
            "Correction.objects.create(story=story)",
            "Correction.objects.bulk_create([Correction(story=story)])",
            'story.correction_set.create(text="new")',
            'correction.text = "new"\ncorrection.save()',
            'Correction.objects.filter(pk=correction.pk).update(text="new")',
            'correction.text = "new"\nCorrection.objects.bulk_update([correction], ["text"])',
            "correction.delete()",
            "Correction.objects.filter(pk=correction.pk).delete()",
            "story.correction_set.all().delete()",
            "correction.story = None\ncorrection.save()",
            "story.correction_set.clear()",
            'reply.text = "new"\nreply.save()',
            "Reply.objects.create(correction=correction)",
            "Reply.objects.bulk_create([Reply(correction=correction)])",
            "reply.delete()",
            'Reply.objects.update(text="new")',
        ),
        Road("correction.story = other_story\ncorrection.save()", ("story", "other_story")),
        Road(
            "Correction.objects.filter(pk=correction.pk).update(story=other_story)",
            ("story", "other_story"),
        ),
        Road("other_story.correction_set.add(correction)", ("story", "other_story")),
        Road(
            'correction.story = other_story\nCorrection.objects.bulk_update([correction], ["story"])',  # noqa: E501
            ("story", "other_story"),
            shown=False,
        ),
        Road('loose_correction.text = "new"\nloose_correction.save()', ("loose_correction",)),
        Road("loose_correction.delete()", ("loose_correction",), shown=False),
    ],
}

# Roads that need no token.
FREE: list[Road] = [
    Road('Story.objects.create(slug="new")', ()),
    Road('Story.objects.bulk_create([Story(slug="new")])', ()),
    Road('section.story_set.create(slug="new")', ()),
    Road('with transaction.atomic(): Story.objects.create(slug="new").tags.add(tag)', ()),
    Road('Story.objects.filter(pk=story.pk).update(views=F("views") + 1)  # EXEMPT_FIELDS', ()),
    Road('story.views += 1\nstory.save(update_fields=["views"])  # EXEMPT_FIELDS', ()),
    Road("story.views += 1\nstory.save()  # EXEMPT_FIELDS", ()),
    Road('story.views += 1\nStory.objects.bulk_update([story], ["views"])', (), shown=False),
    Road('section.name = "new"\nsection.save()', (), shown=False),
    Road('Tag.objects.update(name="new")', (), shown=False),
    Road("other_tag.delete()", (), shown=False),
    Road("Correction.objects.create()", (), shown=False),
]

# What this layer cannot see.
UNCOVERED: list[tuple[str, str]] = [
    ('cursor.execute("UPDATE …")', "raw SQL, and other programs"),
    ("QuerySet(Story).update(…)", "a queryset that no manager made"),
    ("QuerySet(Story)._raw_delete(…)", "the same; through a manager it is guarded"),
    (
        "Model.save_base(Story.tags.through(…))",
        "past the guarded method, and Django sends no signal for an automatic model between",
    ),
    ("on_delete=DB_CASCADE", "what the database does by itself (Django 6.1)"),
    ('apps.get_model("app", "Story")', "the historical models of migrations"),
    ("loaddata", "fixtures, by intent (raw=True)"),
]


def all_roads() -> list[Road]:
    return [road for roads in REFUSED.values() for road in roads]


# Statements written by hand here: the ORM would take most of the tests' time to write them.


def _tables() -> list[str]:
    """Return the rows that a world can have, as what comes after FROM."""
    tables = [model._meta.db_table for model in PLAYED]
    tables += [relation.through._meta.db_table for relation in RELATIONS]
    return [*tables, "auth_permission WHERE name = 'road'"]


def snapshot() -> dict[str, list[str]]:
    """Return all that the database says of what a world has."""
    found = {}
    with connection.cursor() as cursor:
        for table in _tables():
            cursor.execute(f"SELECT * FROM {table}")  # noqa: S608
            found[table] = sorted(map(repr, cursor.fetchall()))
    return found


def clear() -> None:
    """Delete all rows of a world, and all locks, at once."""
    with connection.constraint_checks_disabled(), transaction.atomic(), connection.cursor() as it:
        for table in [LockToken._meta.db_table, *_tables()]:
            it.execute(f"DELETE FROM {table}")  # noqa: S608


def in_a_transaction(road: Road, world: World) -> None:
    """Take ``road`` in a transaction, and prove that a refusal leaves it usable."""
    with transaction.atomic():
        try:
            road.take(world)
        finally:
            Tag.objects.create(name="in the same transaction").delete()
