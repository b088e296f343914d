"""Which lock is an object's: keys as text, and classes that share their rows."""

from datetime import datetime, timezone
from uuid import UUID

import pytest
from django.contrib.auth.models import Group

from lock_tokens.models import LockableModel, LockToken
from lock_tokens.targets import key_for, root_of, target_for, target_of
from tests.app.models import (
    Article,
    ArticleProxy,
    Bistro,
    Dated,
    Line,
    Museum,
    Place,
    Profile,
    Restaurant,
    Slug,
    Uuid,
)


@pytest.mark.parametrize(
    ("model", "pks", "key"),
    [
        (Article, [7, "7", "007"], "7"),
        (Article, [2**63 - 1, str(2**63 - 1)], "9223372036854775807"),
        (Uuid, [UUID(int=7), UUID(int=7).hex, str(UUID(int=7))], str(UUID(int=7))),
        (Slug, ["A/b c"], "A/b c"),
        (Slug, ["key"], "key"),
        (Slug, ["KEY"], "KEY"),
        (Slug, ["key "], "key "),
        (Slug, ["é" * 255], "é" * 255),
        (Line, [(1, 2), [1, 2], '["1", "2"]', "[1, 2]", ("1", "2")], '["1", "2"]'),
        (Profile, [7, "7"], "7"),
        (
            Dated,
            [
                datetime(2026, 1, 2, 3, 4, 5, 6, timezone.utc),
                "2026-01-02T03:04:05.000006+00:00",
                "2026-01-02 03:04:05.000006Z",
            ],
            "2026-01-02T03:04:05.000006+00:00",
        ),
        (Bistro, [7, "7"], "7"),
    ],
)
def test_every_way_to_spell_a_key_is_one_text(model, pks, key):
    assert [key_for(model, pk) for pk in pks] == [key] * len(pks)
    assert key_for(model, key) == key


@pytest.mark.parametrize(
    ("model", "pk", "message"),
    [
        (Article, "seven", "'seven' is not a key of app.Article."),
        (Article, None, "None is not a key of app.Article."),
        (Article, [7], "[7] is not a key of app.Article."),
        (Article, float("inf"), "inf is not a key of app.Article."),
        (Uuid, "seven", "'seven' is not a key of app.Uuid."),
        (Line, 7, "7 is not a key of app.Line."),
        (Line, "seven", "'seven' is not a key of app.Line."),
        (Line, (1,), "(1,) is not a key of app.Line."),
        (Line, (1, 2, 3), "(1, 2, 3) is not a key of app.Line."),
        (Dated, "today", "'today' is not a key of app.Dated."),
        (Restaurant, "seven", "'seven' is not a key of app.Place."),
        (Slug, "a\x00b", "A key of app.Slug cannot contain a NUL character."),
        (
            Slug,
            "a" * 256,
            "The key of this app.Slug has 256 characters; a lockable object's key has 255 at most.",
        ),
    ],
)
def test_what_no_row_can_have_is_a_value_error(model, pk, message):
    with pytest.raises(ValueError, match="key") as caught:
        key_for(model, pk)
    assert str(caught.value) == message


@pytest.mark.django_db
@pytest.mark.parametrize("slug", ["a" * 256, "a" * 300])
@pytest.mark.parametrize(
    "verb",
    [
        lambda obj: LockableModel.lock(obj),
        lambda obj: LockableModel.unlock(obj, "0" * 32),
        lambda obj: LockableModel.is_locked(obj),
        lambda obj: LockableModel.check_lock(obj, "0" * 32),
    ],
    ids=["lock", "unlock", "is_locked", "check_lock"],
)
def test_an_object_whose_key_is_too_long_is_refused_by_every_verb(verb, slug):
    obj = Slug.objects.create(slug=slug)
    with pytest.raises(ValueError, match="characters") as caught:
        verb(obj)
    assert str(caught.value) == (
        f"The key of this app.Slug has {len(slug)} characters; "
        "a lockable object's key has 255 at most."
    )
    assert not LockToken.objects.exists()


@pytest.mark.parametrize(
    ("model", "root"),
    [
        (Article, Article),
        (ArticleProxy, Article),
        (Place, Place),
        (Restaurant, Place),
        (Bistro, Place),
        (Museum, Place),
        (Profile, Profile),
        (Group, Group),
    ],
)
def test_the_root_is_the_table_that_all_rows_of_an_object_share(model, root):
    assert root_of(model) is root


@pytest.mark.django_db
class TestTargets:
    def test_one_object_has_one_target_by_each_of_its_classes(self):
        bistro = Bistro.objects.create(name="a")
        targets = [
            target_of(model.objects.get(pk=bistro.pk)) for model in (Place, Restaurant, Bistro)
        ]
        assert len(set(targets)) == 1
        assert targets[0] == target_for(Place, str(bistro.pk), "default")

    def test_two_objects_have_two(self):
        targets = {target_for(model, pk, "default") for model in (Article, Place) for pk in (1, 2)}
        assert len(targets) == 4

    def test_a_target_names_the_row_that_is_locked(self):
        target = target_of(Bistro.objects.create(name="a"))
        assert (target.label, target.using) == ("app.Place", "default")

    def test_they_are_ordered_by_what_they_are(self):
        targets = [target_for(Article, pk, "default") for pk in (2, 10, 1)]
        ordered = sorted(targets, key=lambda target: target.order)
        assert [target.key for target in ordered] == ["1", "10", "2"]

    def test_a_key_that_no_row_can_have_is_a_value_error(self):
        with pytest.raises(ValueError, match=r"^'x' is not a key of app\.Place\.$"):
            target_for(Bistro, "x", "default")
