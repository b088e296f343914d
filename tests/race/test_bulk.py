"""Bulk writers on real connections: they wait for each other, never in a circle.

Each takes all lock rows that it needs in one order before it writes, and holds them until its
write is committed. The negative controls take the order, or the holding, away.
"""

from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from itertools import cycle
from threading import Barrier, Event

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import F

from lock_tokens import batches, locking, verdicts
from lock_tokens.enforcement import holding, locked, subjects, suspended
from lock_tokens.exceptions import LockTokensError
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.targets import target_of
from tests.app.models import Article, Section, Story, Tag
from tests.race import players
from tests.race.players import before, interleaved, outcomes, play

pytestmark = pytest.mark.django_db(transaction=True)

STORIES = 50
ROUNDS = 20
# Seconds: more than any wait here should take.
LONG = 60
ON_SQLITE = connection.vendor == "sqlite"


@pytest.fixture(autouse=True)
def enforced(settings, transactional_db):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Story", "app.Article"]}
    # Known to every connection beforehand: a transaction on SQLite must not begin by reading.
    ContentType.objects.get_for_models(Story, Article)


def new_stories(number, slug="s"):
    Story.objects.bulk_create([Story(slug=f"{slug}{index}") for index in range(number)])
    return list(Story.objects.filter(slug__startswith=slug).order_by("pk"))


@pytest.fixture
def stories():
    return new_stories(STORIES)


@pytest.fixture
def big_table():
    """Tag other stories: what concerns half of a small table MariaDB finds by locking all of it."""
    if connection.vendor == "mysql":
        others = new_stories(20 * STORIES, "other")
        with suspended(reason="others"):
            Tag.objects.create().story_set.set(others)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE TABLE app_story_tags, app_story")


@pytest.fixture
def few():
    """Three stories: two writers have one each, and meet at the one in the middle."""
    return new_stories(3)


def tokens_of(stories):
    return [LockableModel.lock(story)["token"] for story in stories]


def view(stories):
    pks = [story.pk for story in stories]
    order = "pk" if pks == sorted(pks) else "-pk"
    Story.objects.filter(pk__in=pks).order_by(order).update(views=F("views") + 1)


def view_in_bulk(stories):
    for story in stories:
        story.views = F("views") + 1
    Story.objects.bulk_update(stories, ["views"])


def tag(stories):
    Tag.objects.create().story_set.set(stories)


def tag_and_clear(stories):
    tags = Tag.objects.create().story_set
    tags.add(*stories)
    tags.clear()


def move(stories):
    Section.objects.create().story_set.set(stories)


def save(stories):
    for story in stories[:: STORIES // 5]:
        story.save(update_fields=["title"])


BULK = [view, view_in_bulk, tag, tag_and_clear, move]


def again_and_again(road, stories, tokens, rounds=ROUNDS):
    def work():
        mine = [Story.objects.get(pk=story.pk) for story in stories]
        with holding(*tokens):
            for _ in range(rounds):
                road(mine)

    return work


@pytest.mark.parametrize("road", BULK)
def test_two_bulk_writers_of_the_same_objects_in_opposite_orders_never_deadlock(
    big_table, stories, road
):
    tokens = tokens_of(stories)
    orders = stories, stories[::-1]
    assert outcomes(*[again_and_again(road, order, tokens) for order in orders]) == [None, None]
    if road in (view, view_in_bulk):
        pks = [story.pk for story in stories]
        views = Story.objects.filter(pk__in=pks).values_list("views", flat=True)
        assert set(views) == {2 * ROUNDS}


def test_bulk_writers_by_all_roads_and_single_saves_never_deadlock(big_table, stories):
    tokens = tokens_of(stories)
    orders = cycle([stories, stories[::-1]])
    roads = [*BULK, save, save]
    works = [again_and_again(r, o, tokens, 8) for r, o in zip(roads, orders, strict=False)]
    assert outcomes(*works) == [None] * len(roads)


def test_of_two_bulk_deletes_one_is_done_and_the_other_is_refused_or_finds_nothing():
    for _ in range(ROUNDS):
        stories = new_stories(10)
        tokens, barrier = tokens_of(stories), Barrier(2)

        def delete(order, barrier=barrier, tokens=tokens):
            barrier.wait(LONG)
            with holding(*tokens):
                Story.objects.order_by(order).delete()

        assert play(partial(delete, "pk"), partial(delete, "-pk")) >= 1
        assert not Story.objects.exists()
        assert not LockToken.objects.exists()


def test_bulk_writers_and_bulk_lockers_in_opposite_orders_all_get_their_turns():
    stories = new_stories(12)
    refused = []

    def locker(road, order):
        def work():
            for _ in range(5):
                mine = [Story.objects.get(pk=story.pk) for story in order]
                with locked(*mine, wait=LONG):
                    road(mine)

        return work

    def stranger():
        for _ in range(ROUNDS):
            try:
                view(stories[::-1])
            except LockTokensError as error:  # noqa: PERF203 - each of them is one attempt
                refused.append(error)

    orders = stories, stories[::-1]
    lockers = [locker(road, order) for order in orders for road in (view, view_in_bulk)]
    assert outcomes(*lockers, stranger) == [None] * 5
    assert len(refused) == ROUNDS
    assert set(Story.objects.values_list("views", flat=True)) == {20}
    assert not LockToken.objects.exists()


def meeting(stories, *works):
    """Run ``works`` on connections of their own, which first meet at the middle one's lock row."""
    held, started = Event(), Barrier(len(works) + 1)

    def hold():
        with transaction.atomic():
            locking.hold(target_of(stories[len(stories) // 2]))
            held.set()
            started.wait(LONG)
            Event().wait(players.PATIENCE)

    def begin(work):
        assert held.wait(LONG)
        started.wait(LONG)
        work()

    return outcomes(hold, *[partial(begin, work) for work in works])[1:]


def pair_of_writers(stories):
    tokens = tokens_of(stories)
    return [again_and_again(view, order, tokens, 1) for order in (stories, stories[::-1])]


def test_two_bulk_writers_that_meet_in_the_middle_both_get_through(few):
    assert meeting(few, *pair_of_writers(few)) == [None, None]
    assert set(Story.objects.values_list("views", flat=True)) == {2}


# One write in flight, and somebody else who takes the lock ------------------------------------


def increment_by_update(stories):
    def write():
        Story.objects.filter(pk__in=[story.pk for story in stories]).update(views=F("views") + 1)

    return write


def increment_by_bulk_update(stories):
    mine = list(Story.objects.filter(pk__in=[story.pk for story in stories]))

    def write():
        for story in mine:
            story.views += 1
        Story.objects.bulk_update(mine, ["views"])

    return write


FLIGHTS = pytest.mark.parametrize(
    ("increment", "by_force"),
    [
        pytest.param(increment_by_update, True, id="update, broken"),
        pytest.param(increment_by_bulk_update, False, id="bulk_update, expired"),
    ],
)


def taken_in_flight(stories, increment, *, by_force, block=nullcontext):
    """Bob takes one lock after Alice's bulk write was judged and before it is written.

    Returns how many were acknowledged, and what the counter says.
    """
    wanted, tokens = stories[1], tokens_of(stories)
    if not by_force:
        LockToken.objects.filter(token_str=tokens[1]).update(
            locked_at=LockToken.objects.get(token_str=tokens[1]).locked_at - timedelta(days=1)
        )
    write = increment(stories)
    judged, taken, alice_done = Event(), Event(), Event()

    def alice_pauses():
        judged.set()
        taken.wait(players.PATIENCE)

    def alice():
        try:
            with block(), holding(*tokens), before("UPDATE app_story", alice_pauses):
                write()
        finally:
            judged.set()
            alice_done.set()

    def bob():
        story = Story.objects.get(pk=wanted.pk)
        assert judged.wait(LONG)
        if by_force:
            LockToken.objects.break_lock(story, reason="the test")
        with locked(story, refresh=True):
            taken.set()
            story.views += 1
            alice_done.wait(players.PATIENCE)
            story.save()

    return play(alice, bob), Story.objects.get(pk=wanted.pk).views


@pytest.fixture
def no_renewal(monkeypatch):
    """Leave expired locks as they are, so that they can be taken over all the same."""
    monkeypatch.setattr(verdicts, "RENEW_BELOW", -1000)


@pytest.mark.parametrize("block", [nullcontext, transaction.atomic])
@FLIGHTS
def test_who_takes_one_lock_waits_for_the_bulk_write_in_flight(
    few, increment, by_force, block, no_renewal
):
    assert taken_in_flight(few, increment, by_force=by_force, block=block) == (2, 2)


def test_a_bulk_write_in_flight_renews_its_expired_lock_before_it_can_be_taken_over(few):
    assert taken_in_flight(few, increment_by_update, by_force=False) == (1, 1)


# Relations ------------------------------------------------------------------------------------


def tagged(story, tag):
    return story.tags.filter(pk=tag.pk).exists()


def delete_tag_while_it_is_added(stories, at):
    """The holder of one story's lock deletes a tag, the holder of another's adds it there."""
    tag = Tag.objects.create()
    mine, other = stories[:2]
    mine_token, other_token = tokens_of([mine, other])
    with holding(mine_token):
        mine.tags.add(tag)

    def delete():
        with holding(mine_token):
            Tag.objects.get(pk=tag.pk).delete()

    def add():
        with holding(other_token):
            other.tags.add(tag)

    deleted, added = interleaved(delete, add, at=at)
    return deleted, added, tagged(other, tag), tagged(mine, tag)


@pytest.mark.parametrize("at", ["DELETE FROM app_story_tags", "DELETE FROM app_tag"])
def test_deleting_a_tag_never_takes_it_from_a_story_whose_lock_is_not_held(few, at):
    deleted, added, is_tagged, mine_is_tagged = delete_tag_while_it_is_added(few, at)
    assert sorted([deleted is None, added is None]) == [False, True]
    assert isinstance(deleted or added, (IntegrityError, LockTokensError))
    assert is_tagged == (added is None)
    assert mine_is_tagged == (deleted is not None)


def test_a_tag_that_is_deleted_meanwhile_is_not_added(few):
    tag, story = Tag.objects.create(), few[0]
    (token,) = tokens_of([story])

    def add():
        with holding(token):
            story.tags.add(tag)

    found = interleaved(add, Tag.objects.get(pk=tag.pk).delete, at="INSERT .*INTO app_story_tags")
    assert all(isinstance(e, (IntegrityError, LockTokensError)) for e in found if e is not None)
    # On MariaDB an added row that can refer to nullcontext is left out without an error, by Django.
    assert found.count(None) == 1 or connection.vendor == "mysql"
    assert tagged(story, tag) == Tag.objects.filter(pk=tag.pk).exists() == (found[1] is not None)


# A row that somebody else creates -------------------------------------------------------------

KEY = 4321


def upsert():
    target = {} if connection.vendor == "mysql" else {"unique_fields": ["id"]}
    new = Article(pk=KEY, title="overwritten")
    Article.objects.bulk_create([new], update_conflicts=True, update_fields=["title"], **target)


def save_new():
    Article(pk=KEY, title="overwritten").save()


def update_or_create():
    Article.objects.update_or_create(pk=KEY, defaults={"title": "overwritten"})


def created_meanwhile(road):
    def create():
        Article.objects.create(pk=KEY, title="created")

    found = interleaved(road, create, at="INSERT INTO app_article")
    return [error is None for error in found], found, Article.objects.get(pk=KEY).title


@pytest.mark.parametrize("road", [upsert, save_new, update_or_create])
def test_a_row_created_after_the_look_is_not_overwritten(road):
    (done, created), errors, title = created_meanwhile(road)
    assert (done, created) == ((True, False) if ON_SQLITE else (False, True)), errors
    assert title == ("overwritten" if ON_SQLITE else "created")
    assert isinstance(next(filter(None, errors)), (IntegrityError, LockTokensError))


# SQLite has one write lock, and nothing to interleave.
if not ON_SQLITE:

    class TestNegativeControls:
        @pytest.fixture
        def time_enough(self, monkeypatch):
            # Here the other side can do it, and is waited for however busy the machine is.
            monkeypatch.setattr(players, "PATIENCE", players.TIME_ENOUGH)

        def test_without_one_order_two_bulk_writers_deadlock(self, few, monkeypatch):
            orders = cycle([list, reversed])

            def hold_in_an_order_of_its_own(targets):
                ordered = next(orders)(batches.in_order(targets))
                return {target: locking.hold(target) for target in ordered}

            monkeypatch.setattr(batches, "hold", hold_in_an_order_of_its_own)
            # On a busy machine they may not meet: the first is through when the second begins.
            for _ in range(ROUNDS):
                found = meeting(few, *pair_of_writers(few))
                LockToken.objects.all().delete()
                if any(found):
                    break
            assert sorted(type(error) for error in found if error) == [OperationalError]
            assert "deadlock" in str(next(filter(None, found))).lower()

        @FLIGHTS
        def test_without_holding_the_rows_an_update_is_lost(
            self, few, monkeypatch, increment, by_force, no_renewal, time_enough
        ):
            def look(targets):
                return {target: locking.read(target) for target in targets}

            monkeypatch.setattr(batches, "hold", look)
            assert taken_in_flight(few, increment, by_force=by_force) == (2, 1)

        def test_a_deletion_of_more_than_was_judged_takes_the_tag_away(
            self, few, monkeypatch, time_enough
        ):
            monkeypatch.setattr(subjects, "just", lambda queryset, rows: queryset)
            at = "DELETE FROM app_story_tags"
            assert delete_tag_while_it_is_added(few, at) == (None, None, False, False)

        def test_without_the_guard_an_upsert_overwrites_what_was_created_meanwhile(
            self, settings, time_enough
        ):
            settings.LOCK_TOKENS = {**settings.LOCK_TOKENS, "OUTSIDE_REQUEST": "allow"}
            done, _, title = created_meanwhile(upsert)
            assert done == [True, True]
            assert title == "overwritten"
