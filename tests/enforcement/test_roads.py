"""No way round the guard: each road is allowed with the token and refused without it."""

from contextlib import contextmanager, nullcontext

import pytest
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import path

from lock_tokens.enforcement import holding, locked, suspended
from lock_tokens.exceptions import LockRequired, ObjectLocked, StaleToken
from lock_tokens.models import LockableModel, LockToken
from tests.enforcement.roads import (
    ENFORCED,
    FREE,
    World,
    all_roads,
    clear,
    in_a_transaction,
    snapshot,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def enforced(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ENFORCED}


def in_autocommit(road, world):
    road.take(world)


MODES = [
    pytest.param(in_autocommit, id="autocommit"),
    pytest.param(in_a_transaction, id="atomic"),
]


class Stage:
    """A world in which roads are taken, and what its database said before."""

    def __init__(self):
        clear()
        with suspended(reason="fixture"), transaction.atomic():
            self.world = World()
        self.before = snapshot()
        self.unchanged = False

    def objects(self, road):
        return [self.world.rows[name] for name in road.needs]

    def is_unchanged(self):
        self.unchanged = snapshot() == self.before
        return self.unchanged


@pytest.fixture
def play(subtests):
    """Return a function that plays a scenario on each of some roads, in subtests of one test.

    Of one test, because to make a database anew takes longer than to play it all. While nothing
    changes, one world is enough.
    """

    def play(scenario, roads):
        stage = None
        for road in roads:
            with subtests.test(str(road)):
                stage, used = None, stage or Stage()
                LockToken.objects.all().delete()
                scenario(road, used)
                stage = used if used.unchanged else None

    return play


def lock_all(objects):
    return [LockableModel.lock(obj)["token"] for obj in objects]


def stale_tokens(objects):
    tokens = lock_all(objects)
    for obj, token in zip(objects, tokens, strict=True):
        LockableModel.unlock(obj, token)
    return tokens


@pytest.mark.parametrize("mode", MODES)
class TestEveryRoad:
    def test_is_refused_without_a_token(self, mode, play):
        def scenario(road, stage):
            with pytest.raises(LockRequired):
                mode(road, stage.world)
            assert stage.is_unchanged()

        play(scenario, all_roads())

    def test_is_refused_while_somebody_else_has_the_lock(self, mode, play):
        def scenario(road, stage):
            lock_all(stage.objects(road))
            with pytest.raises(ObjectLocked):
                mode(road, stage.world)
            assert stage.is_unchanged()

        play(scenario, all_roads())

    def test_is_refused_with_a_stale_token(self, mode, play):
        def scenario(road, stage):
            with holding(*stale_tokens(stage.objects(road))), pytest.raises(StaleToken):
                mode(road, stage.world)
            assert stage.is_unchanged()

        play(scenario, all_roads())

    def test_is_refused_with_only_some_of_the_tokens(self, mode, play):
        def scenario(road, stage):
            for obj in stage.objects(road):
                with locked(obj), pytest.raises(LockRequired):
                    mode(road, stage.world)
                assert stage.is_unchanged()

        play(scenario, [road for road in all_roads() if len(road.needs) > 1])

    def test_is_allowed_with_the_token(self, mode, play):
        def scenario(road, stage):
            with locked(*stage.objects(road)):
                mode(road, stage.world)
            assert not stage.is_unchanged()

        play(scenario, all_roads())

    def test_is_allowed_while_suspended(self, mode, play):
        def scenario(road, stage):
            with suspended(reason="the test"):
                mode(road, stage.world)
            assert not stage.is_unchanged()

        play(scenario, all_roads())

    def test_is_open_once_nothing_is_enforced(self, mode, play, settings):
        # The negative control of all that is refused above.
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": {}}

        def scenario(road, stage):
            mode(road, stage.world)
            assert not stage.is_unchanged()

        play(scenario, all_roads())


@pytest.mark.parametrize("mode", MODES)
def test_what_needs_no_token(mode, play):
    def scenario(road, stage):
        mode(road, stage.world)
        assert not stage.is_unchanged()

    play(scenario, FREE)


# In a request, whose view is one transaction.
PLAYED = {"block": nullcontext}


def view(request, index):
    with PLAYED["block"]():
        all_roads()[index].take(PLAYED["world"])
    return HttpResponse("written")


@contextmanager
def suspended_in_views():
    PLAYED["block"] = lambda: suspended(reason="the test")
    yield
    PLAYED["block"] = nullcontext


urlpatterns = [path("<int:index>/", view)]


@pytest.fixture
def atomic_requests(settings):
    settings.ROOT_URLCONF = __name__
    old = connection.settings_dict["ATOMIC_REQUESTS"]
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    yield
    connection.settings_dict["ATOMIC_REQUESTS"] = old


@pytest.mark.usefixtures("atomic_requests")
class TestEveryRoadInARequestThatIsOneTransaction:
    @staticmethod
    def post(road, stage, *tokens):
        PLAYED["world"] = stage.world
        headers = {"X-Lock-Token": ", ".join(tokens)} if tokens else {}
        return Client().post(f"/{all_roads().index(road)}/", headers=headers).status_code

    def test_is_refused_without_a_token(self, play):
        def scenario(road, stage):
            assert self.post(road, stage) == 428
            assert stage.is_unchanged()

        play(scenario, all_roads())

    def test_is_refused_while_somebody_else_has_the_lock(self, play):
        def scenario(road, stage):
            lock_all(stage.objects(road))
            assert self.post(road, stage) == 423
            assert stage.is_unchanged()

        play(scenario, all_roads())

    def test_is_refused_with_a_stale_token(self, play):
        def scenario(road, stage):
            assert self.post(road, stage, *stale_tokens(stage.objects(road))) == 412
            assert stage.is_unchanged()

        play(scenario, all_roads())

    def test_is_allowed_with_the_token(self, play):
        def scenario(road, stage):
            assert self.post(road, stage, *lock_all(stage.objects(road))) == 200
            assert not stage.is_unchanged()

        play(scenario, all_roads())

    def test_is_allowed_while_suspended(self, play):
        def scenario(road, stage):
            with suspended_in_views():
                assert self.post(road, stage) == 200
            assert not stage.is_unchanged()

        play(scenario, all_roads())

    def test_is_open_once_nothing_is_enforced(self, play, settings):
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": {}}

        def scenario(road, stage):
            assert self.post(road, stage) == 200
            assert not stage.is_unchanged()

        play(scenario, all_roads())
