"""Two real connections interleave a write with a take-over of its lock; nothing may be lost.

Each scenario returns how many writes were acknowledged and what the counter says afterwards. If
they differ, an acknowledged write was overwritten by somebody who had not seen it. The negative
controls take one protection away and must see just that.
"""

from contextlib import contextmanager, nullcontext
from datetime import timedelta
from threading import Event

import pytest
from django.db import connection, transaction
from django.db.models.signals import pre_save

from lock_tokens import batches, locking, verdicts
from lock_tokens.enforcement import guard, holding, locked, saves
from lock_tokens.exceptions import ObjectLocked
from lock_tokens.models import LockableModel, LockToken
from tests.app.models import Article
from tests.race import players
from tests.race.players import play

pytestmark = pytest.mark.django_db(transaction=True)

# A share of the timeout that no lock here has ever lost.
NEVER = -1000


@pytest.fixture(autouse=True)
def enforced(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"]}


@pytest.fixture
def article():
    return Article.objects.create(title="counter", view_count=0)


@pytest.fixture
def token(article):
    """The token of a lock with nearly all of its time left, which the guard does not renew."""
    return LockableModel.lock(article)["token"]


@pytest.fixture
def expired_token(article):
    """The token of a lock that has expired and that nobody has taken over yet."""
    token = LockableModel.lock(article)["token"]
    lock = LockToken.objects.get_for_object(article)
    lock.locked_at -= timedelta(days=1)
    lock.save()
    return token


@contextmanager
def between_look_and_write(action):
    """Run ``action`` when Alice's save has been judged and her row is not written yet."""

    def receiver(instance, **kwargs):
        if instance.title == "alice":
            action()

    pre_save.connect(receiver, sender=Article)
    try:
        yield
    finally:
        pre_save.disconnect(receiver, sender=Article)


def alice_saves(pk, token, block):
    article = Article.objects.get(pk=pk)

    def work():
        article.title = "alice"
        article.view_count += 1
        with block(), holding(token) if token else nullcontext():
            article.save()

    return work


def taken_in_flight(pk, token, block=nullcontext, *, by_force=False):
    """Bob takes the lock after Alice's save was judged and before it is written.

    He takes it over if it has expired; ``by_force`` he breaks it first.
    """
    judged, taken, alice_done = Event(), Event(), Event()

    def alice_pauses():
        judged.set()
        taken.wait(players.PATIENCE)

    def bob():
        article = Article.objects.get(pk=pk)
        assert judged.wait(20)
        if by_force:
            LockToken.objects.break_lock(article, reason="the test")
        with locked(article):
            article.refresh_from_db()
            taken.set()
            article.title = "bob"
            article.view_count += 1
            alice_done.wait(players.PATIENCE)
            article.save()

    save = alice_saves(pk, token, block)

    def alice():
        try:
            save()
        finally:
            alice_done.set()

    with between_look_and_write(alice_pauses):
        acknowledged = play(alice, bob)
    return acknowledged, Article.objects.get(pk=pk).view_count


def broken_in_flight(pk, token, block=nullcontext):
    return taken_in_flight(pk, token, block, by_force=True)


def unlocked_writer(pk):
    """Alice saves without any lock, as "respect" allows; Bob takes one before hers is written."""
    return taken_in_flight(pk, None)


def stale_writer(pk, token, block=nullcontext):
    """Alice saves while Bob's take-over and his own save are done but not committed."""
    written, judged = Event(), Event()

    def bob():
        article = Article.objects.get(pk=pk)
        with transaction.atomic(), locked(article):
            article.refresh_from_db()
            article.title = "bob"
            article.view_count += 1
            article.save()
            written.set()
            judged.wait(players.PATIENCE)

    save = alice_saves(pk, token, block)

    def alice():
        assert written.wait(20)
        save()

    with between_look_and_write(judged.set):
        acknowledged = play(bob, alice)
    return acknowledged, Article.objects.get(pk=pk).view_count


BLOCKS = [
    pytest.param(nullcontext, id="autocommit"),
    pytest.param(transaction.atomic, id="atomic"),
]


@pytest.mark.parametrize("block", BLOCKS)
def test_who_breaks_the_lock_waits_for_the_write_in_flight(article, token, block):
    acknowledged, counter = broken_in_flight(article.pk, token, block)
    assert (acknowledged, counter) == (2, 2)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_take_over_waits_for_the_write_in_flight_which_renews_the_lock(
    article, expired_token, block
):
    acknowledged, counter = taken_in_flight(article.pk, expired_token, block)
    assert (acknowledged, counter) == (1, 1)
    assert Article.objects.get().title == "alice"


@pytest.mark.parametrize("block", BLOCKS)
def test_a_take_over_waits_for_the_write_in_flight_without_a_renewal(
    article, expired_token, block, monkeypatch
):
    monkeypatch.setattr(verdicts, "RENEW_BELOW", NEVER)
    acknowledged, counter = taken_in_flight(article.pk, expired_token, block)
    assert (acknowledged, counter) == (2, 2)
    assert Article.objects.get().title == "bob"


@pytest.mark.parametrize("block", BLOCKS)
def test_a_stale_writer_waits_for_the_take_over_and_is_refused(article, expired_token, block):
    acknowledged, counter = stale_writer(article.pk, expired_token, block)
    assert (acknowledged, counter) == (1, 1)


@pytest.fixture
def respect(settings):
    settings.LOCK_TOKENS = {**settings.LOCK_TOKENS, "OUTSIDE_REQUEST": "respect"}


def test_who_takes_a_lock_waits_for_a_writer_without_one(article, respect):
    assert unlocked_writer(article.pk) == (2, 2)
    assert not LockToken.objects.exists()


# SQLite has one write lock and no row lock that could be taken away.
if connection.vendor != "sqlite":

    def test_a_lock_that_is_taken_just_before_the_look_is_respected(article, respect, monkeypatch):
        reserve = batches.reserve

        def lose_and_reserve(targets):
            monkeypatch.undo()
            play(lambda: LockableModel.lock(Article.objects.get(pk=article.pk)))
            return reserve(targets)

        monkeypatch.setattr(batches, "reserve", lose_and_reserve)
        with pytest.raises(ObjectLocked) as caught:
            article.save()
        assert caught.value.lock is not None

    class TestNegativeControls:
        """Without the row lock or the transaction, the same interleaving loses an update."""

        @pytest.fixture(autouse=True)
        def time_enough(self, monkeypatch):
            # Here the other side can do it, and is waited for however busy the machine is.
            monkeypatch.setattr(players, "PATIENCE", players.TIME_ENOUGH)

        @pytest.fixture(autouse=True)
        def no_renewal(self, monkeypatch):
            # A renewal would take the row lock that the control takes away.
            monkeypatch.setattr(verdicts, "RENEW_BELOW", NEVER)

        @pytest.mark.parametrize("scenario", [taken_in_flight, broken_in_flight, stale_writer])
        def test_without_the_row_lock_an_update_is_lost(
            self, article, expired_token, monkeypatch, scenario
        ):
            monkeypatch.setattr(locking, "hold", locking.read)
            assert scenario(article.pk, expired_token) == (2, 1)

        @pytest.mark.parametrize("scenario", [taken_in_flight, broken_in_flight])
        def test_with_a_look_outside_the_transaction_of_the_write_an_update_is_lost(
            self, article, expired_token, monkeypatch, scenario
        ):
            monkeypatch.setattr(saves, "transaction_for", lambda using: nullcontext())
            monkeypatch.setattr(guard, "require_transaction", lambda label, pk, using: None)
            monkeypatch.setattr(locking, "hold", self.hold_in_a_transaction_of_its_own)
            assert scenario(article.pk, expired_token) == (2, 1)

        @staticmethod
        def hold_in_a_transaction_of_its_own(target, hold=locking.hold):
            with transaction.atomic(using=target.using):
                return hold(target)

        def test_without_shutting_others_out_an_update_is_lost(self, article, respect, monkeypatch):
            monkeypatch.setattr(batches, "reserve", lambda targets: (batches.hold(targets), []))
            assert unlocked_writer(article.pk) == (2, 1)
