"""Threads, each with a connection of its own, wait for each other's locks."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from threading import Barrier, Event

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction

from lock_tokens.enforcement import locked, locks
from lock_tokens.exceptions import AlreadyLockedError
from lock_tokens.models import LockableModel, LockToken
from tests.app.models import Article

pytestmark = pytest.mark.django_db(transaction=True)

THREADS = 8
ROUNDS = 20
# Seconds: more than any wait here should take, and one that is seen to its end.
LONG = 120
SHORT = 0.3


@pytest.fixture(autouse=True)
def enforced(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"]}


@pytest.fixture
def pool():
    with ThreadPoolExecutor(THREADS) as pool:
        # Known to every connection beforehand, as in test_acquire.
        ContentType.objects.get_for_model(Article)
        yield pool
        barrier = Barrier(THREADS)

        def close():
            barrier.wait(timeout=60)
            connection.close()

        for future in [pool.submit(close) for _ in range(THREADS)]:
            future.result(timeout=60)


@pytest.fixture
def articles():
    return [Article.objects.create(title=title) for title in "ab"]


def counts():
    return list(Article.objects.order_by("pk").values_list("view_count", flat=True))


def increment(*articles):
    for article in articles:
        article.view_count += 1
        article.save()


def increment_in(order, block):
    """Count in both articles, for each round in a block that locks them in that order."""

    def work():
        for _ in range(ROUNDS):
            with block([Article.objects.get(pk=pk) for pk in order]) as articles:
                increment(*articles)

    return work


@contextmanager
def all_at_once(articles):
    with locked(*articles, wait=LONG, refresh=True):
        yield articles


@contextmanager
def one_in_the_other(articles):
    """Nested blocks, always in the same order; between them others may come."""
    first, second = sorted(articles, key=lambda article: article.pk)
    with locked(first, wait=LONG, refresh=True), locked(second, wait=LONG, refresh=True):
        yield articles


def run(pool, works):
    for future in [pool.submit(work) for work in works]:
        future.result(timeout=LONG)


@pytest.mark.parametrize("block", [all_at_once, one_in_the_other])
def test_lockers_of_the_same_objects_in_any_order_all_get_their_turns(pool, articles, block):
    a, b = (article.pk for article in articles)
    run(pool, [increment_in(order, block) for order in [(a, b), (b, a)] * (THREADS // 2)])
    assert counts() == [THREADS * ROUNDS] * 2
    assert not LockToken.objects.exists()


def test_decorated_functions_take_their_turns(pool, articles):
    pks = [article.pk for article in articles]

    @locks(Article, "pks", wait=LONG)
    def count(pks):
        increment(*Article.objects.filter(pk__in=pks))

    def work():
        for round_ in range(ROUNDS // 2):
            count(pks if round_ % 2 else pks[::-1])

    run(pool, [work] * THREADS)
    assert counts() == [THREADS * (ROUNDS // 2)] * 2


def test_without_the_second_look_increments_are_lost(pool, articles):
    """The negative control: what was read before the lock is old once it is held."""
    barrier = Barrier(THREADS)

    def work():
        article = Article.objects.get(pk=articles[0].pk)
        barrier.wait(timeout=60)
        with locked(article, wait=LONG):
            increment(article)

    run(pool, [work] * THREADS)
    assert counts() == [1, 0]


class Holder:
    """Holds the lock of an article in a thread until told to release it."""

    def __init__(self, pool, article):
        self.article = article
        self.release = Event()
        self.held = Event()
        self.future = pool.submit(self.hold)
        assert self.held.wait(20)

    def hold(self):
        with locked(self.article):
            self.held.set()
            assert self.release.wait(LONG)

    def end(self):
        self.release.set()
        self.future.result(timeout=20)


def test_who_waits_gets_the_lock_when_its_holder_releases_it(pool, articles):
    holder = Holder(pool, articles[0])

    def wait():
        with locked(*articles, wait=LONG) as tokens:
            return tokens

    waiter = pool.submit(wait)
    time.sleep(SHORT)
    assert not waiter.done()
    holder.end()
    assert len(waiter.result(timeout=20)) == 2
    assert not LockToken.objects.exists()


def test_who_waits_in_vain_is_refused_and_holds_nothing(pool, articles):
    holder = Holder(pool, articles[1])

    def wait():
        begun = time.monotonic()
        with pytest.raises(AlreadyLockedError) as caught:
            locked(*articles, wait=SHORT).__enter__()
        return time.monotonic() - begun, caught.value.pk

    waited, refused = pool.submit(wait).result(timeout=20)
    assert waited >= SHORT
    assert refused == articles[1].pk
    assert not LockableModel.is_locked(articles[0])
    holder.end()


def in_autocommit():
    return nullcontext()


# MariaDB and SQLite keep what a transaction has locked, and so the holder from releasing.
BLOCKS = [in_autocommit, *([transaction.atomic] if connection.vendor == "postgresql" else [])]


@pytest.mark.parametrize("block", BLOCKS)
def test_while_waiting_nobody_else_is_kept_waiting(pool, articles, block):
    """The second lock is not free; the first one is, for everybody, between the attempts."""
    holder = Holder(pool, articles[1])
    waiting = Event()

    def wait():
        with block():
            waiting.set()
            with locked(*articles, wait=LONG) as tokens:
                return tokens

    waiter = pool.submit(wait)
    assert waiting.wait(20)
    for _ in range(3):
        time.sleep(SHORT / 3)
        with locked(articles[0], wait=20, refresh=True):
            articles[0].save()
    assert not waiter.done()
    holder.end()
    assert len(waiter.result(timeout=20)) == 2
