"""A lock that is taken in a transaction which does not end: how long do the others wait?"""

import time
from contextlib import contextmanager, nullcontext, suppress
from threading import Event

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import OperationalError, connection, transaction

from lock_tokens import statements
from lock_tokens.enforcement import locked
from lock_tokens.exceptions import AlreadyLockedError
from lock_tokens.models import LockableModel, LockToken
from tests.app.models import Article
from tests.race.players import PATIENCE, TIME_ENOUGH, Worker, outcomes, play

pytestmark = pytest.mark.django_db(transaction=True)

# What a project sets if nobody is to wait longer than a second, or less.
AT_MOST_A_SECOND = {
    "sqlite": "PRAGMA busy_timeout = 500",
    "postgresql": "SET lock_timeout = '500ms'",
    "mysql": "SET innodb_lock_wait_timeout = 1",
}
BUSY = (
    "The database is locked: another connection kept it from being written for longer than the "
    "timeout in its OPTIONS, or this transaction had read what the other one then changed. Keep "
    "transactions short, raise the timeout, and set transaction_mode to IMMEDIATE there."
)
ROUNDS = 30


@pytest.fixture(autouse=True)
def enforced(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"]}


@pytest.fixture
def article():
    ContentType.objects.get_for_model(Article)
    return Article.objects.create(title="wanted")


class UndoneError(Exception):
    """Ends a transaction."""


@contextmanager
def taken_in_a_transaction(article, *, committed=True):
    """Another connection has the lock inside, in a transaction that ends when it is left."""
    taken, end = Event(), Event()

    def work():
        with suppress(UndoneError), transaction.atomic():
            LockableModel.lock(article)
            taken.set()
            end.wait(TIME_ENOUGH)
            if not committed:
                raise UndoneError

    holder = Worker(work)
    holder.start()
    assert taken.wait(TIME_ENOUGH)
    try:
        yield end
    finally:
        end.set()
        holder.join(TIME_ENOUGH)
        assert holder.error is None


@pytest.mark.parametrize(
    ("committed", "refusal"), [(True, AlreadyLockedError), (False, type(None))]
)
def test_who_wants_a_lock_that_is_being_taken_learns_it_when_that_transaction_ends(
    article, committed, refusal
):
    waited = []

    def other():
        begun = time.monotonic()
        try:
            LockableModel.lock(article)
        finally:
            waited.append(time.monotonic() - begun)

    with taken_in_a_transaction(article, committed=committed) as end:
        second = Worker(other)
        second.start()
        second.join(PATIENCE)
        waits = second.is_alive()
        end.set()
        second.join(TIME_ENOUGH)

    assert (waits, type(second.refused), second.error) == (True, refusal, None)


def wait_a_second_at_most():
    with connection.cursor() as cursor:
        cursor.execute(AT_MOST_A_SECOND[connection.vendor])


if connection.vendor != "sqlite":

    def refused_after(article, block=nullcontext, prepare=lambda: None):
        """Return the refusal of who wants a lock that is being taken, and after how long it came.

        Then he writes something else in the same block.
        """
        found = []

        def other():
            prepare()
            with block():
                begun = time.monotonic()
                try:
                    LockableModel.lock(article)
                except AlreadyLockedError as error:
                    found.extend([error, time.monotonic() - begun])
                Article.objects.create(title="written all the same")

        with taken_in_a_transaction(article):
            assert outcomes(other) == [None]
        assert Article.objects.filter(title="written all the same").exists()
        return found

    def test_nobody_waits_for_ever_for_a_transaction_that_does_not_end(article):
        error, waited = refused_after(article)
        assert str(error) == (
            f"app.Article {article.pk} is being locked or unlocked by a transaction that goes on."
        )
        # MariaDB may wait twice.
        assert statements.BOUND - 0.5 < waited < 2 * statements.BOUND + 1

    @pytest.mark.parametrize("block", [nullcontext, transaction.atomic])
    def test_where_the_database_is_told_so_nobody_waits_longer_and_the_transaction_goes_on(
        article, block
    ):
        _, waited = refused_after(article, block, wait_a_second_at_most)
        assert waited < statements.BOUND - 1

else:

    def test_a_busy_database_is_waited_for_and_then_it_is_said_what_was_wrong(article):
        waited = []

        def other():
            wait_a_second_at_most()
            begun = time.monotonic()
            try:
                LockableModel.lock(article)
            finally:
                waited.append(time.monotonic() - begun)

        with taken_in_a_transaction(article):
            (error,) = outcomes(other)

        assert (type(error), str(error)) == (OperationalError, BUSY)
        assert waited[0] >= 0.5

    def test_a_transaction_that_takes_a_lock_first_waits_for_a_busy_database(article):
        def other():
            with transaction.atomic():
                LockableModel.lock(Article.objects.only("pk").get(pk=article.pk))

        other_article = Article.objects.create(title="of no concern")
        with taken_in_a_transaction(other_article) as end:
            end.set()
        assert play(other) == 1


def test_two_that_lock_the_same_two_objects_in_opposite_orders_never_deadlock(article):
    second = Article.objects.create(title="also wanted")

    def taking(*articles):
        def work():
            for _ in range(ROUNDS):
                with locked(*articles, wait=TIME_ENOUGH):
                    for each in articles:
                        each.save()

        return work

    assert play(taking(article, second), taking(second, article)) == 2
    assert not LockToken.objects.exists()
