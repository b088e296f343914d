"""A lock remembered in a session: second tabs, stale tokens, log-outs."""

import json
from datetime import datetime, timedelta, timezone

import pytest
from django.contrib.auth import SESSION_KEY, login
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpResponse
from django.urls import path
from freezegun import freeze_time

from lock_tokens.exceptions import (
    AlreadyLockedError,
    InvalidToken,
    LockExpiredWarning,
    NoLockWarning,
    UnlockForbiddenError,
)
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.sessions import (
    check_for_session,
    get_session_key,
    lock_for_session,
    release_all,
    unlock_for_session,
)
from lock_tokens.signals import object_unlocked
from tests.app.models import Article, ArticleProxy, Bistro, Line, Place, Slug

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)


def take(request, pk):
    """Lock an article for the session of whoever asks."""
    return HttpResponse(
        json.dumps(lock_for_session(Article.objects.get(pk=pk), request.session)),
        content_type="application/json",
    )


urlpatterns = [path("take/<int:pk>/", take)]

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


@pytest.fixture
def clock():
    with freeze_time(NOON) as frozen:
        yield frozen


@pytest.fixture
def session():
    return SessionStore()


@pytest.fixture
def other_session():
    return SessionStore()


@pytest.fixture
def stale(article, session, other_session, clock):
    """The session's token, stale since the other session took the lock over and released it."""
    token = lock_for_session(article, session)["token"]
    clock.tick(timedelta(days=1))
    lock_for_session(article, other_session)
    unlock_for_session(article, other_session)
    return token


class TestLocking:
    def test_the_session_remembers_the_token(self, any_object, session):
        result = lock_for_session(any_object, session)

        assert result == LockToken.objects.get().serialize()
        assert session[get_session_key(any_object)] == result["token"]
        assert check_for_session(any_object, session) is True

    def test_what_it_remembers_can_be_stored(self, any_object, session):
        token = lock_for_session(any_object, session)["token"]
        session.save()
        assert SessionStore(session.session_key)[get_session_key(any_object)] == token

    @pytest.mark.parametrize("force_new", [False, True])
    def test_a_second_tab_renews_and_locks_nobody_out(self, any_object, session, clock, force_new):
        token = lock_for_session(any_object, session)["token"]
        clock.tick(timedelta(minutes=30))

        result = lock_for_session(any_object, session, force_new=force_new)

        assert result == {"token": token, "expires": "2026-03-01 13:30:00 UTC"}
        assert session[get_session_key(any_object)] == token

    @pytest.mark.parametrize("force_new", [False, True])
    def test_an_expired_lock_that_nobody_took_is_renewed(self, article, session, clock, force_new):
        token = lock_for_session(article, session)["token"]
        clock.tick(timedelta(days=1))
        assert lock_for_session(article, session, force_new=force_new)["token"] == token

    @pytest.mark.parametrize("force_new", [False, True])
    def test_somebody_elses_live_lock_is_refused(
        self, article, session, other_session, clock, force_new
    ):
        token = lock_for_session(article, other_session)["token"]

        with pytest.raises(AlreadyLockedError):
            lock_for_session(article, session, force_new=force_new)

        assert not session.keys()
        assert LockableModel.check_lock(article, token)

    @pytest.mark.parametrize("force_new", [False, True])
    def test_a_refusal_does_not_throw_away_the_token_of_the_session(
        self, article, session, stale, lock, force_new
    ):
        lock(article)
        with pytest.raises((AlreadyLockedError, InvalidToken)):
            lock_for_session(article, session, force_new=force_new)
        assert session[get_session_key(article)] == stale

    def test_a_stale_token_is_refused_though_the_object_is_free(self, article, session, stale):
        with pytest.raises(InvalidToken):
            lock_for_session(article, session)
        assert not LockToken.objects.exists()

    def test_a_stale_token_gives_way_to_a_fresh_lock_where_that_is_forced(
        self, article, session, stale
    ):
        token = lock_for_session(article, session, force_new=True)["token"]
        assert token != stale
        assert session[get_session_key(article)] == token
        assert LockableModel.check_lock(article, token)

    @pytest.mark.parametrize("rubbish", [3, "", "x", "é", [], {}, "0" * 1000], ids=repr)
    def test_rubbish_in_the_session_is_a_stale_token(self, article, session, rubbish):
        session[get_session_key(article)] = rubbish
        with pytest.raises(InvalidToken):
            lock_for_session(article, session)
        lock_for_session(article, session, force_new=True)
        assert check_for_session(article, session) is True

    def test_the_timeout_of_the_call_applies(self, article, session, clock):
        lock_for_session(article, session, timeout=60)
        assert LockToken.objects.get().timeout == 60
        lock_for_session(article, session, timeout=90)
        assert LockToken.objects.get().timeout == 90

    def test_the_lock_belongs_to_the_user_of_the_session(self, article, session, alice):
        session[SESSION_KEY] = str(alice.pk)
        lock_for_session(article, session)
        assert LockToken.objects.get().locked_by == alice

    @pytest.mark.parametrize("user", ["", "x", [], None], ids=repr)
    def test_a_session_of_nobody_locks_for_nobody(self, article, session, user):
        session[SESSION_KEY] = user
        lock_for_session(article, session)
        assert LockToken.objects.get().locked_by is None


class TestUnlocking:
    def test_the_lock_and_the_token_are_gone(self, any_object, session):
        lock_for_session(any_object, session)
        unlock_for_session(any_object, session)
        assert not LockToken.objects.exists()
        assert not session.keys()

    def test_a_session_without_the_lock_may_not(self, article, session, other_session):
        lock_for_session(article, other_session)
        with pytest.raises(UnlockForbiddenError) as caught:
            unlock_for_session(article, session)
        assert str(caught.value) == (
            f"app.Article {article.pk} was not unlocked: the token is not the one of its lock."
        )
        assert check_for_session(article, other_session) is True

    def test_a_session_with_a_stale_token_may_not(self, article, session, stale, lock):
        token = lock(article)
        with pytest.raises(UnlockForbiddenError):
            unlock_for_session(article, session)
        assert LockableModel.check_lock(article, token)


class TestChecking:
    """Warnings are errors here, so a check that returns has not warned."""

    def test_it_is_true_for_an_expired_lock_with_a_warning(self, article, session, clock):
        lock_for_session(article, session)
        clock.tick(timedelta(days=1))
        with pytest.warns(LockExpiredWarning):
            assert check_for_session(article, session) is True

    def test_it_is_false_without_any_lock_with_a_warning(self, article, session):
        with pytest.warns(NoLockWarning):
            assert check_for_session(article, session) is False

    def test_it_is_false_for_a_stale_token(self, article, session, stale, lock):
        lock(article)
        assert check_for_session(article, session) is False

    def test_it_is_false_for_somebody_elses_lock(self, article, session, other_session):
        lock_for_session(article, other_session)
        assert check_for_session(article, session) is False


class TestKeys:
    @pytest.mark.parametrize(
        ("obj", "key"),
        [
            (Article(pk=7), "app_article_7"),
            (ArticleProxy(pk=7), "app_article_7"),
            (Bistro(pk=7), "app_place_7"),
            (Place(pk=7), "app_place_7"),
            (Slug(slug="A/b c"), "app_slug_A/b c"),
            (Line(order=1, number=2), 'app_line_["1", "2"]'),
        ],
    )
    def test_the_key_names_the_object(self, obj, key):
        assert get_session_key(obj) == key


class TestUsers:
    """Real clients with real sessions, logged in and out by Django."""

    @pytest.fixture
    def alices(self, client, alice):
        client.force_login(alice)
        return client

    @pytest.fixture
    def bobs(self, bob):
        from django.test import Client

        client = Client()
        client.force_login(bob)
        return client

    def test_the_second_of_two_users_is_refused_and_told_who_was_first(
        self, article, alices, bobs, clock
    ):
        assert alices.get(f"/take/{article.pk}/").status_code == 200

        response = bobs.get(f"/take/{article.pk}/", headers={"accept": "application/json"})

        assert response.status_code == 423
        assert response.json()["lock"]["by"] == "alice"
        assert LockToken.objects.get().locked_by.username == "alice"

    def test_a_second_tab_gets_the_same_lock(self, article, alices):
        tokens = {alices.get(f"/take/{article.pk}/").json()["token"] for _ in range(3)}
        assert len(tokens) == 1

    def test_logging_out_releases_the_locks_of_that_session_and_no_other(
        self, article, alices, bobs
    ):
        others = Article.objects.create(title="b")
        mine = Article.objects.create(title="c")
        for obj in (article, mine):
            alices.get(f"/take/{obj.pk}/")
        bobs.get(f"/take/{others.pk}/")

        alices.logout()

        assert [row.locked_object for row in LockToken.objects.all()] == [others]
        assert bobs.get(f"/take/{article.pk}/").status_code == 200

    def test_logging_out_leaves_a_lock_that_was_taken_over(self, article, alices, bobs, clock):
        alices.get(f"/take/{article.pk}/")
        clock.tick(timedelta(hours=2))
        bobs.get(f"/take/{article.pk}/")
        alices.logout()
        assert LockToken.objects.get().locked_by.username == "bob"

    def test_logging_out_gets_past_a_lock_whose_model_is_gone(self, article, alices):
        alices.get(f"/take/{article.pk}/")
        gone = ContentType.objects.create(app_label="gone", model="gone")
        # Of a type with this id that another test made.
        ContentType.objects.clear_cache()
        LockToken.objects.update(locked_object_content_type=gone)
        alices.logout()
        assert LockToken.objects.count() == 1

    def test_logging_out_without_locks_asks_the_database_nothing(
        self, alices, django_assert_max_num_queries
    ):
        def asked(captured):
            return [q for q in captured if "lock_tokens_locktoken" in q["sql"]]

        with django_assert_max_num_queries(10) as captured:
            alices.logout()
        assert asked(captured) == []

    def test_logging_in_keeps_the_locks_that_were_taken_before(self, article, client, alice, rf):
        client.get(f"/take/{article.pk}/")
        request = rf.get("/")
        request.session = client.session
        login(request, alice)
        assert check_for_session(article, request.session) is True


def test_logging_out_tells_the_key_of_each_object_as_it_is(
    article, django_capture_on_commit_callbacks
):
    heard = []

    def hear(pk, **kwargs):
        heard.append(pk)

    session = SessionStore()
    lock_for_session(article, session)
    object_unlocked.connect(hear)
    with django_capture_on_commit_callbacks(execute=True):
        release_all(session)
    object_unlocked.disconnect(hear)
    assert heard == [article.pk]
