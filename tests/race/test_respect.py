"""Writers without a lock, and those who take one, exclude each other under "respect".

Whoever increments under a lock reads, and later writes what it read plus one; whoever has none
lets the database count. What the counter says is then what was acknowledged, unless one without
a lock wrote between the two.
"""

from contextlib import nullcontext
from datetime import timedelta
from itertools import cycle
from threading import Event

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import F

from lock_tokens import batches, locking
from lock_tokens.enforcement import locked
from lock_tokens.exceptions import AlreadyLockedError, LockTokensError, ObjectLocked
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.signals import lock_broken, lock_taken_over, object_locked, object_unlocked
from tests.app.models import Article, Story
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
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": {"app.Story": {"POLICY": "respect"}}}
    # Known to every connection beforehand: a transaction on SQLite must not begin by reading.
    ContentType.objects.get_for_models(Story, Article)


def new_stories(number):
    Story.objects.bulk_create([Story(slug=f"s{index}") for index in range(number)])
    return list(Story.objects.order_by("pk"))


@pytest.fixture
def stories():
    return new_stories(STORIES)


@pytest.fixture
def few():
    return new_stories(3)


def save(stories):
    story = Story(pk=stories[0].pk, slug=stories[0].slug, views=F("views") + 1)
    story._state.adding = False
    story.save(update_fields=["views"])


def update(stories):
    Story.objects.filter(pk__in=[story.pk for story in stories]).update(views=F("views") + 1)


def bulk_update(stories):
    mine = [Story(pk=story.pk, slug=story.slug, views=F("views") + 1) for story in stories]
    Story.objects.bulk_update(mine, ["views"])


WRITERS = [save, update, bulk_update]


def views_of(stories):
    views = dict(Story.objects.values_list("pk", "views"))
    return [views[story.pk] for story in stories]


def increment_in_lock(story, wait=None):
    """Read, and write what was read plus one, under the lock."""
    story = Story.objects.get(pk=story.pk)
    with locked(story, wait=wait, refresh=True):
        story.views += 1
        story.save(update_fields=["views"])


def rolled_back_by_mariadb(error):
    """Tell whether MariaDB chose a transaction that takes locks to be undone, as documented.

    It locks the remains of deleted rows too, which writers without a lock leave by the dozen.
    """
    return error.args[:1] == (locking.DEADLOCK,)


class Counting:
    """Runs ``work`` again and again; ``done`` is how often it was acknowledged."""

    def __init__(self, work, *args, rounds=ROUNDS):
        self.work = work
        self.args = args
        self.rounds = rounds
        self.done = 0

    def __call__(self):
        for _ in range(self.rounds):
            try:
                self.work(*self.args)
            except LockTokensError:
                continue
            except OperationalError as error:
                if not rolled_back_by_mariadb(error):
                    raise
                continue
            self.done += 1


def test_what_lockers_and_writers_without_a_lock_acknowledge_is_never_lost(few):
    lockers = [Counting(increment_in_lock, s, LONG, rounds=10) for s in few for _ in range(2)]
    writers = [
        Counting(road, order) for road in (update, bulk_update) for order in (few, few[::-1])
    ]
    singles = [Counting(save, [story]) for story in few]
    works = [*lockers, *writers, *singles]
    assert outcomes(*works) == [None] * len(works)
    in_bulk = sum(writer.done for writer in writers)
    alone = [sum(lockers[2 * n + k].done for k in (0, 1)) + singles[n].done for n in range(3)]
    assert views_of(few) == [in_bulk + each for each in alone]
    assert not LockToken.objects.exists()
    assert all(each.done for each in lockers)


@pytest.mark.parametrize("road", [update, bulk_update])
def test_two_bulk_writers_in_opposite_orders_never_deadlock(stories, road):
    works = [Counting(road, order) for order in (stories, stories[::-1])]
    assert outcomes(*works) == [None, None]
    assert set(views_of(stories)) == {2 * ROUNDS}
    assert not LockToken.objects.exists()


def test_many_writers_of_one_object_wait_for_each_other(few):
    works = [Counting(road, few[:1]) for road in WRITERS for _ in range(2)]
    assert outcomes(*works) == [None] * len(works)
    done = [work.done for work in works]
    # MariaDB may end one of more than two as a deadlock; it is not acknowledged, and not lost.
    assert connection.vendor == "mysql" or done == [ROUNDS] * len(works)
    assert views_of(few)[0] == sum(done)
    assert not LockToken.objects.exists()


def locked_in_flight(stories, road, block=nullcontext):
    """Bob takes a lock after Alice's write without one was judged and before it is written.

    Returns how many were acknowledged, and what the counter says.
    """
    judged, taken, alice_done = Event(), Event(), Event()

    def alice_pauses():
        judged.set()
        taken.wait(players.PATIENCE)

    def alice():
        try:
            with block(), before("UPDATE app_story", alice_pauses):
                road(stories)
        finally:
            judged.set()
            alice_done.set()

    def bob():
        story = Story.objects.get(pk=stories[0].pk)
        assert judged.wait(LONG)
        with locked(story, refresh=True):
            taken.set()
            story.views += 1
            alice_done.wait(players.PATIENCE)
            story.save()

    return play(alice, bob), views_of(stories)[0]


@pytest.mark.parametrize(
    ("road", "block"), [*((road, nullcontext) for road in WRITERS), (update, transaction.atomic)]
)
def test_who_takes_a_lock_waits_for_the_writer_in_flight(few, road, block):
    assert locked_in_flight(few, road, block) == (2, 2)
    assert not LockToken.objects.exists()


@pytest.mark.parametrize("road", WRITERS)
def test_while_a_lock_is_held_writers_without_one_are_refused_and_leave_no_lock(few, road):
    with locked(few[0]):
        (refused,) = outcomes(lambda: road(few))
        assert type(refused) is ObjectLocked
        assert LockToken.objects.count() == 1
    assert views_of(few) == [0, 0, 0]


@pytest.mark.parametrize("road", WRITERS)
def test_two_writers_and_a_locker_exclude_each_other(few, road):
    """The second writer waits for the first one, and so does who wants the lock."""
    found = []

    def others():
        found.extend(outcomes(lambda: road(few[::-1]), lambda: increment_in_lock(few[-1])))

    first = interleaved(lambda: road(few), others, at="UPDATE app_story")
    assert first == [None, None]
    assert {type(error) for error in found} <= {type(None), ObjectLocked, AlreadyLockedError}
    shared = [1, *[error is None for error in found]]
    # A single save is of the first one only.
    expected = shared[0] + shared[1] + shared[2] if road is not save else shared[1] + shared[2]
    assert views_of(few)[-1] == expected


@pytest.mark.parametrize("road", WRITERS)
def test_a_writer_sends_no_signals_of_locks(few, road):
    sent = []

    def receive(signal, **kwargs):
        sent.append(signal)

    signals = object_locked, object_unlocked, lock_taken_over, lock_broken
    for signal in signals:
        signal.connect(receive, sender=Story)
    try:
        assert outcomes(lambda: road(few)) == [None]
    finally:
        for signal in signals:
            signal.disconnect(receive, sender=Story)
    assert sent == []
    assert not LockToken.objects.exists()


@pytest.mark.parametrize("road", WRITERS)
def test_a_lock_of_somebody_else_that_has_expired_becomes_stale(few, road):
    token = LockableModel.lock(few[0])["token"]
    lock = LockToken.objects.get()
    lock.locked_at -= timedelta(days=1)
    lock.save()
    assert outcomes(lambda: road(few)) == [None]
    assert not LockToken.objects.exists()
    with pytest.raises(LockTokensError):
        LockableModel.lock(few[0], token)


def test_a_write_that_fails_leaves_no_lock(few):
    def clash():
        Story.objects.filter(pk=few[0].pk).update(slug=few[1].slug)

    (error,) = outcomes(clash)
    assert isinstance(error, IntegrityError)
    assert not LockToken.objects.exists()


# SQLite has one write lock, and nothing that could be taken away.
if not ON_SQLITE:

    class TestNegativeControls:
        @pytest.fixture(autouse=True)
        def time_enough(self, monkeypatch):
            # Here the other side can do it, and is waited for however busy the machine is.
            monkeypatch.setattr(players, "PATIENCE", players.TIME_ENOUGH)

        @pytest.mark.parametrize("road", WRITERS)
        def test_by_a_plain_look_an_update_is_lost(self, few, road, monkeypatch):
            monkeypatch.setattr(batches, "reserve", lambda targets: (batches.hold(targets), []))
            assert locked_in_flight(few, road) == (2, 1)

        def test_without_one_order_two_bulk_writers_deadlock(self, few, monkeypatch):
            """Each has reserved its first one when it reserves the others."""
            reserve, orders = batches.reserve, cycle([list, reversed])
            meeting = [Event(), Event()]
            turns = cycle([meeting, meeting[::-1]])

            def reserve_in_an_order_of_its_own(targets):
                placed, (mine, other) = [], next(turns)
                for target in next(orders)(batches.in_order(targets)):
                    placed += reserve([target])[1]
                    mine.set()
                    assert other.wait(LONG)
                return {}, placed

            monkeypatch.setattr(batches, "reserve", reserve_in_an_order_of_its_own)
            found = outcomes(lambda: update(few), lambda: update(few))
            assert sorted(type(error) for error in found if error) == [OperationalError]
            assert "deadlock" in str(next(filter(None, found))).lower()
