"""Rows that another object's lock protects, and rows with exempt fields, on real connections.

Nobody may move such a row, or change it, between the guard's look at it and the write. The
negative controls let the guard look without locking the row, and see what slips through.
"""

from contextlib import nullcontext
from threading import Event

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import QuerySet

from lock_tokens import locking
from lock_tokens.enforcement import holding, locked
from lock_tokens.exceptions import LockTokensError
from lock_tokens.models import LockableModel, LockToken
from tests.app.models import Correction, Reply, Story, Tag
from tests.race import players
from tests.race.players import before, interleaved, outcomes, play

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS = 20
# Seconds: more than any wait here should take.
LONG = 60
ON_SQLITE = connection.vendor == "sqlite"
# How the statement begins by which the guard looks at one lock and holds it.
LOOK = "(UPDATE lock_tokens_locktoken|SELECT id, token_str)"


@pytest.fixture(autouse=True)
def enforced(settings, transactional_db):
    settings.LOCK_TOKENS = {
        "ENFORCED_MODELS": {
            "app.Story": {"EXEMPT_FIELDS": ["views"]},
            "app.Correction": {"VIA": "story"},
            "app.Reply": {"VIA": "correction.story"},
        }
    }
    # Known to every connection beforehand: a transaction on SQLite must not begin by reading.
    ContentType.objects.get_for_models(Story, Correction, Reply)


class Desk:
    """Two stories with the tokens of their locks, and a row that the first one's protects."""

    def __init__(self, model):
        self.a, self.b = Story.objects.create(slug="a"), Story.objects.create(slug="b")
        self.token_a, self.token_b = (LockableModel.lock(s)["token"] for s in (self.a, self.b))
        with holding(self.token_a):
            self.correction = Correction.objects.create(story=self.a)
            reply = Reply.objects.create(correction=self.correction)
        self.model = model
        self.pk = reply.pk if model is Reply else self.correction.pk

    @property
    def rows(self):
        return self.model.objects.filter(pk=self.pk)

    @property
    def corrections(self):
        return Correction.objects.filter(pk=self.correction.pk)

    def is_with_b(self):
        return self.corrections.filter(story=self.b).exists()


@pytest.fixture
def desk(request):
    return Desk(request.param)


def hops(name, one, two):
    """Parametrise ``name`` by ``one`` where one foreign key leads to the story, else by ``two``."""
    cases = [*((Correction, value) for value in one), *((Reply, value) for value in two)]
    return pytest.mark.parametrize(("desk", name), cases, indirect=["desk"])


def save(rows):
    row = rows.get()
    row.text = "new"
    row.save(update_fields=["text"])


def save_whole(rows):
    row = rows.get()
    row.text = "new"
    row.save()


def update(rows):
    rows.update(text="new")


def bulk_update(rows):
    row = rows.get()
    row.text = "new"
    rows.model.objects.bulk_update([row], ["text"])


def delete(rows):
    rows.get().delete()


def delete_in_bulk(rows):
    rows.delete()


WRITES = [save, save_whole, update, bulk_update, delete, delete_in_bulk]


def moved_in_flight(desk, write):
    """The row's correction moves from A to B while a holder of A's lock alone writes the row.

    Returns whether the row was moved, and what it said right afterwards and says in the end.
    """
    seen = []

    def writer():
        with holding(desk.token_a):
            write(desk.rows)

    def mover():
        with holding(desk.token_a, desk.token_b):
            desk.corrections.update(story=desk.b)
        seen.extend(desk.rows.values_list("text"))

    written, moved = interleaved(writer, mover, at=LOOK)
    assert moved is None
    assert written is None or isinstance(written, LockTokensError)
    return desk.is_with_b(), seen, list(desk.rows.values_list("text"))


@hops("write", one=WRITES, two=[save_whole, update, delete_in_bulk])
def test_a_row_is_not_written_by_a_token_that_does_not_protect_it_any_more(desk, write):
    moved, seen, now = moved_in_flight(desk, write)
    assert now == seen
    # Nobody was kept from the move but by the row's deletion.
    assert moved or (desk.model is Correction and now == [])


@pytest.mark.parametrize("desk", [Correction, Reply], indirect=True)
def test_a_writer_who_comes_too_late_is_refused(desk):
    with holding(desk.token_a, desk.token_b):
        desk.corrections.update(story=desk.b)
    with holding(desk.token_a):
        assert play(*[lambda write=write: write(desk.rows) for write in WRITES]) == 0


def test_moves_and_writes_of_the_same_rows_in_opposite_orders_never_deadlock():
    desk = Desk(Reply)
    with holding(desk.token_a):
        Correction.objects.bulk_create([Correction(story=desk.a) for _ in range(20)])
        parents = list(Correction.objects.order_by("-pk"))
        Reply.objects.bulk_create([Reply(correction=parent) for parent in parents])
    stories = desk.a, desk.b

    def move():
        for number in range(ROUNDS):
            with holding(desk.token_a, desk.token_b):
                Correction.objects.order_by("-pk").update(story=stories[number % 2])

    def write(rows):
        def work():
            for number in range(ROUNDS):
                found = list(rows.all())
                for row in found:
                    row.text = str(number)
                with holding(desk.token_b, desk.token_a):
                    type(found[0]).objects.bulk_update(found, ["text"])

        return work

    def save_one():
        for _ in range(ROUNDS):
            with holding(desk.token_a, desk.token_b):
                save(desk.rows)

    works = [move, write(Reply.objects.order_by("pk")), write(Correction.objects.all()), save_one]
    assert outcomes(*works) == [None] * 4


def created_in_flight(desk, create):
    """Bob breaks the lock of a story and counts what it has, while Alice adds to it."""
    judged, taken, alice_done = Event(), Event(), Event()
    counts = []

    def alice_pauses():
        judged.set()
        taken.wait(players.PATIENCE)

    def alice():
        table = desk.model._meta.db_table
        try:
            with holding(desk.token_a), before(f"INSERT .*INTO {table}", alice_pauses):
                create(desk)
        finally:
            judged.set()
            alice_done.set()

    def bob():
        assert judged.wait(LONG)
        LockToken.objects.break_lock(desk.a, reason="the test")
        with locked(desk.a):
            counts.append(desk.model.objects.count())
            taken.set()
            alice_done.wait(players.PATIENCE)
            counts.append(desk.model.objects.count())

    assert play(alice, bob) == 2
    return counts


def values_of(desk):
    return {"story": desk.a} if desk.model is Correction else {"correction": desk.correction}


def create(desk):
    desk.model.objects.create(**values_of(desk))


def bulk_create(desk):
    desk.model.objects.bulk_create([desk.model(**values_of(desk))])


def get_or_create(desk):
    desk.model.objects.get_or_create(text="another", **values_of(desk))


CREATIONS = [create, bulk_create, get_or_create]


@hops("creation", one=CREATIONS, two=[bulk_create])
def test_who_breaks_the_lock_waits_for_a_creation_in_flight(desk, creation):
    assert created_in_flight(desk, creation) == [2, 2]


@pytest.mark.parametrize("desk", [Correction, Reply], indirect=True)
def test_deleting_a_story_or_adding_to_it_under_the_same_lock_leaves_nothing_behind(desk):
    def add():
        with holding(desk.token_a):
            create(desk)

    def delete_story():
        with holding(desk.token_a):
            Story.objects.get(pk=desk.a.pk).delete()

    added, deleted = interleaved(add, delete_story, at=f"INSERT .*INTO {desk.model._meta.db_table}")
    assert isinstance(added, (IntegrityError, LockTokensError, type(None)))
    assert isinstance(deleted, (IntegrityError, LockTokensError, type(None)))
    assert None in (added, deleted)
    assert desk.rows.exists() == (deleted is not None)


def untag(story):
    story.tags.clear()


def write_correction(story):
    update(Correction.objects.filter(story=story))


def write_reply(story):
    save(Reply.objects.filter(correction__story=story))


@pytest.mark.parametrize("write", [untag, write_correction, write_reply])
@pytest.mark.parametrize("first", ["above", "below"])
def test_a_holder_who_deletes_a_story_and_writes_below_it_at_once_loses_nothing(first, write):
    """Under one token in two transactions: the database may end one of them as a deadlock."""
    story = Desk(Reply).a
    token = LockToken.objects.get_for_object(story).token_str
    with holding(token):
        story.tags.add(Tag.objects.create())

    def delete_story():
        with holding(token):
            Story.objects.get(pk=story.pk).delete()

    def write_below():
        with holding(token):
            write(story)

    works = [delete_story, write_below] if first == "above" else [write_below, delete_story]
    errors = [error for error in interleaved(*works, at=LOOK) if error is not None]
    assert len(errors) < 2
    assert all(isinstance(error, (OperationalError, LockTokensError)) for error in errors), errors
    delete_story() if Story.objects.filter(pk=story.pk).exists() else None
    assert not Correction.objects.filter(story=story.pk).exists()


# Exempt fields --------------------------------------------------------------------------------


def read_in_flight(story, block=nullcontext):
    """A reader counts the view by a plain save while the editor renames the story."""

    def reader():
        mine = Story.objects.get(pk=story.pk)
        mine.views += 1
        with block():
            mine.save()

    def editor():
        mine = Story.objects.get(pk=story.pk)
        with locked(mine, refresh=True):
            mine.title = "new"
            mine.save()

    return [*interleaved(reader, editor, at="UPDATE app_story"), Story.objects.get().title]


@pytest.mark.parametrize("block", [nullcontext, transaction.atomic])
def test_a_reader_who_changes_exempt_fields_does_not_undo_the_editors_change(block):
    assert read_in_flight(Story.objects.create(slug="a"), block) == [None, None, "new"]


def test_of_readers_and_editors_only_editors_change_the_title():
    story = Story.objects.create(slug="a", title="0")
    refused = []

    def read():
        for _ in range(ROUNDS):
            mine = Story.objects.get(pk=story.pk)
            mine.views += 1
            try:
                mine.save()
            except LockTokensError as error:
                refused.append(error)

    def edit():
        for _ in range(ROUNDS // 2):
            mine = Story.objects.get(pk=story.pk)
            with locked(mine, wait=LONG, refresh=True):
                mine.title = str(int(mine.title) + 1)
                mine.save()

    assert outcomes(read, read, edit, edit) == [None] * 4
    assert Story.objects.get().title == str(2 * (ROUNDS // 2))


# SQLite has one write lock, and no row lock that could be taken away.
if not ON_SQLITE:

    class TestNegativeControls:
        @pytest.fixture(autouse=True)
        def time_enough(self, monkeypatch):
            # Here the other side can do it, and is waited for however busy the machine is.
            monkeypatch.setattr(players, "PATIENCE", players.TIME_ENOUGH)

        @pytest.fixture
        def no_row_locks(self, monkeypatch):
            plain = lambda queryset, **options: queryset._chain()  # noqa: E731
            monkeypatch.setattr(QuerySet, "select_for_update", plain)

        @hops("write", one=[save, bulk_update, delete], two=[update])
        def test_without_locking_the_row_it_is_written_after_it_has_moved(
            self, desk, write, no_row_locks
        ):
            _, seen, now = moved_in_flight(desk, write)
            assert seen == [("old",)] != now

        @hops("creation", one=CREATIONS, two=[bulk_create])
        def test_without_holding_the_lock_the_protector_gets_rows_that_its_holder_does_not_know(
            self, desk, creation, monkeypatch
        ):
            monkeypatch.setattr(locking, "hold", locking.read)
            assert created_in_flight(desk, creation) == [1, 2]

        def test_without_the_guard_a_reader_undoes_the_editors_change(self, settings):
            settings.LOCK_TOKENS = {**settings.LOCK_TOKENS, "OUTSIDE_REQUEST": "allow"}
            assert read_in_flight(Story.objects.create(slug="a")) == [None, None, "old"]
