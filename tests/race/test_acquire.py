"""Many threads, each with a connection of its own, want one lock at the same instant."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
from django.utils import timezone

from lock_tokens.exceptions import AlreadyLockedError, InvalidToken
from lock_tokens.models import LockableModel, LockToken
from tests.app.models import Article

pytestmark = pytest.mark.django_db(transaction=True)

THREADS = 12
ROUNDS = 10


@pytest.fixture
def together():
    """Return a function that runs calls at one instant and returns what each returned or raised."""
    barrier = Barrier(THREADS)

    def run(call):
        barrier.wait(timeout=60)
        try:
            return call()
        except Exception as error:
            return error

    with ThreadPoolExecutor(THREADS) as pool:

        def start(*calls):
            assert len(calls) == THREADS
            return [future.result(timeout=120) for future in [pool.submit(run, c) for c in calls]]

        # Known to every connection beforehand: a transaction on SQLite must not begin by reading
        # if it is to write.
        ContentType.objects.get_for_model(Article)
        yield start
        start(*[lambda: connection.close()] * THREADS)  # Each its own.


def in_autocommit(call):
    return call


def in_a_transaction(call):
    def run():
        with transaction.atomic():
            return call()

    return run


@pytest.fixture(params=[in_autocommit, in_a_transaction])
def wrapped(request):
    return request.param


@pytest.fixture
def article():
    return Article.objects.create(title="wanted by all")


def acquire(article):
    return lambda: LockableModel.lock(article)["token"]


def outcomes(results):
    """Return the tokens that were given out, having checked that all else are refusals."""
    tokens = [result for result in results if isinstance(result, str)]
    others = [result for result in results if not isinstance(result, (str, AlreadyLockedError))]
    assert others == []
    return tokens


def expire(article):
    LockToken.objects.filter(pk=LockToken.objects.get_for_object(article).pk).update(
        locked_at=timezone.now() - timedelta(days=1)
    )


@pytest.mark.parametrize("_round", range(ROUNDS))
def test_one_of_many_gets_a_free_lock_and_the_rest_are_refused(together, wrapped, article, _round):
    results = together(*[wrapped(acquire(article))] * THREADS)

    (token,) = outcomes(results)
    assert LockToken.objects.get().token_str == token


@pytest.mark.parametrize("_round", range(ROUNDS))
def test_one_of_many_takes_an_expired_lock_over_and_the_rest_are_refused(
    together, wrapped, article, _round
):
    old = LockableModel.lock(article)["token"]
    old_id = LockToken.objects.get().pk
    expire(article)

    results = together(*[wrapped(acquire(article))] * THREADS)

    (token,) = outcomes(results)
    lock = LockToken.objects.get()
    assert lock.token_str == token != old
    assert lock.pk > old_id


@pytest.mark.parametrize("_round", range(ROUNDS))
def test_renewing_an_expired_lock_or_taking_it_over_has_one_winner(
    together, wrapped, article, _round
):
    old = LockableModel.lock(article)["token"]
    expire(article)

    def renew():
        try:
            return LockableModel.lock(article, old)["token"]
        except InvalidToken as error:
            return AlreadyLockedError(str(error))

    results = together(wrapped(renew), *[wrapped(acquire(article))] * (THREADS - 1))

    (token,) = outcomes(results)
    assert LockToken.objects.get().token_str == token


@pytest.mark.parametrize("_round", range(ROUNDS))
def test_a_lock_released_amid_acquirers_goes_to_one_of_them_at_most(
    together, wrapped, article, _round
):
    old = LockableModel.lock(article)["token"]

    released, *results = together(
        wrapped(lambda: LockableModel.unlock(article, old)),
        *[wrapped(acquire(article))] * (THREADS - 1),
    )

    assert released is None
    tokens = outcomes(results)
    assert len(tokens) <= 1
    assert [lock.token_str for lock in LockToken.objects.all()] == tokens


@pytest.mark.parametrize("_round", range(3))
def test_locks_that_are_taken_and_released_all_the_time_are_never_held_twice(
    together, article, _round
):
    held = []

    def take_and_release():
        try:
            token = LockableModel.lock(article)["token"]
        except AlreadyLockedError:
            return
        held.append(token)
        holders = list(held)
        held.remove(token)
        LockableModel.unlock(article, token)
        assert holders == [token]

    def again_and_again():
        for _ in range(5):
            take_and_release()

    results = together(*[again_and_again] * THREADS)

    assert results == [None] * THREADS
    assert not LockToken.objects.exists()


@pytest.mark.parametrize("_round", range(3))
def test_takers_of_neighbouring_objects_do_not_get_into_each_others_way(together, _round):
    def working_on(article):
        def take_renew_and_release():
            for _ in range(10):
                token = LockableModel.lock(article)["token"]
                LockableModel.lock(article, token)
                LockableModel.unlock(article, token)

        return take_renew_and_release

    articles = [Article.objects.create(title=str(number)) for number in range(THREADS)]

    assert together(*map(working_on, articles)) == [None] * THREADS
