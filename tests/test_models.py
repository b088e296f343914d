"""The verbs on objects and on lock rows: SPEC's table, for every shape of key."""

import logging
import re
import secrets
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ObjectDoesNotExist
from freezegun import freeze_time

from lock_tokens.exceptions import (
    AlreadyLockedError,
    InvalidToken,
    LockExpiredWarning,
    NoLockWarning,
    UnlockForbiddenError,
)
from lock_tokens.models import LockableModel, LockToken, get_random_token
from lock_tokens.signals import object_locked
from lock_tokens.targets import target_of
from tests.app.models import (
    Article,
    ArticleProxy,
    Bistro,
    Chapter,
    Line,
    Page,
    Place,
    Restaurant,
    Slug,
    Uuid,
)

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, timezone.utc)
NO_TOKENS = [None, "", 3, b"0" * 32, "é" * 32, "0" * 31 + "\x00", "0" * 1000, ["0" * 32]]


@pytest.fixture(params=["sync", "async"])
def verbs(request):
    """The verbs as functions, each one itself and its async twin."""
    names = ["lock", "unlock", "is_locked", "check_lock"]
    if request.param == "sync":
        return SimpleNamespace(**{name: getattr(LockableModel, name) for name in names})
    return SimpleNamespace(
        **{name: async_to_sync(getattr(LockableModel, f"a{name}")) for name in names}
    )


@pytest.fixture
def clock():
    with freeze_time(NOON) as frozen:
        yield frozen


@pytest.fixture
def expired(any_object, clock):
    """A token of a lock of ``any_object`` that expired this instant."""
    token = LockableModel.lock(any_object, timeout=60)["token"]
    clock.tick(60)
    return token


def again(obj):
    """Return the same object, read anew."""
    return type(obj).objects.get(pk=obj.pk)


class TestLock:
    def test_a_free_object_is_locked_and_the_token_dict_says_until_when(
        self, verbs, any_object, clock
    ):
        result = verbs.lock(any_object)

        row = LockToken.objects.get()
        assert result == {"token": row.token_str, "expires": "2026-03-01 13:00:00 UTC"}
        assert row.serialize() == result
        assert row.locked_object == again(any_object) or row.locked_object.pk == any_object.pk
        assert row.locked_at == row.created == NOON
        assert row.locked_by is None
        assert verbs.is_locked(again(any_object)) is True

    def test_a_live_lock_is_refused_and_stays(self, verbs, any_object, clock):
        token = verbs.lock(any_object)["token"]

        with pytest.raises(AlreadyLockedError) as caught:
            verbs.lock(again(any_object))

        target = target_of(any_object)
        assert str(caught.value) == (
            f"{target.label} {target.pk} is already locked; try again when it is free. Locked "
            "since 2026-03-01 12:00:00+00:00 until 2026-03-01 13:00:00+00:00."
        )
        assert (caught.value.model_label, caught.value.pk) == (target.label, target.pk)
        assert caught.value.lock.since == NOON
        assert caught.value.lock.until == NOON + timedelta(hours=1)
        assert verbs.check_lock(any_object, token) is True

    def test_an_expired_lock_is_taken_over_by_a_new_row_and_its_token_is_stale(
        self, verbs, any_object, expired
    ):
        old = LockToken.objects.get()

        token = verbs.lock(again(any_object))["token"]

        row = LockToken.objects.get()
        assert row.token_str == token != expired
        assert row.pk > old.pk
        assert row.created == row.locked_at == NOON + timedelta(seconds=60)
        assert verbs.check_lock(any_object, token) is True
        assert verbs.check_lock(any_object, expired) is False

    def test_the_valid_token_renews_with_the_same_token_and_a_later_expiry(
        self, verbs, any_object, clock
    ):
        token = verbs.lock(any_object)["token"]
        pk = LockToken.objects.get().pk
        clock.tick(timedelta(minutes=30))

        assert verbs.lock(again(any_object), token) == {
            "token": token,
            "expires": "2026-03-01 13:30:00 UTC",
        }
        row = LockToken.objects.get()
        assert (row.pk, row.created) == (pk, NOON)
        assert row.get_expiration_datetime() == NOON + timedelta(minutes=90)

    def test_the_valid_token_renews_an_expired_lock_that_nobody_took(
        self, verbs, any_object, expired
    ):
        assert verbs.lock(any_object, expired)["token"] == expired
        assert verbs.is_locked(any_object) is True

    def test_a_token_whose_row_was_replaced_does_not_renew(self, verbs, any_object, expired):
        token = verbs.lock(any_object)["token"]

        with pytest.raises(InvalidToken) as caught:
            verbs.lock(any_object, expired)

        target = target_of(any_object)
        assert str(caught.value) == (
            f"The token is not the one of the lock on {target.label} {target.pk}; "
            "lock the object again and reload it."
        )
        assert verbs.check_lock(any_object, token) is True

    def test_a_token_whose_row_was_removed_does_not_bring_it_back(self, verbs, any_object):
        token = verbs.lock(any_object)["token"]
        verbs.unlock(any_object, token)

        with pytest.raises(InvalidToken):
            verbs.lock(any_object, token)

        assert not LockToken.objects.exists()

    @pytest.mark.parametrize("token", NO_TOKENS[1:], ids=repr)
    def test_what_is_no_token_does_not_renew(self, verbs, article, token):
        verbs.lock(article)
        with pytest.raises(InvalidToken):
            verbs.lock(article, token)

    @pytest.mark.parametrize(
        ("obj", "message"),
        [
            (
                Article(title="a"),
                "This app.Article is unsaved: it has no key, so it has no lock either. "
                "Save it first.",
            ),
            (
                Line(order=1),
                "This app.Line is unsaved: it has no key, so it has no lock either. Save it first.",
            ),
            (Uuid(name="a"), "This app.Uuid is unsaved, so it cannot be locked. Save it first."),
            (Article(pk=7), "This app.Article is unsaved, so it cannot be locked. Save it first."),
        ],
    )
    def test_an_unsaved_object_is_a_value_error(self, verbs, obj, message):
        with pytest.raises(ValueError, match="unsaved") as caught:
            verbs.lock(obj)
        assert str(caught.value) == message
        assert not LockToken.objects.exists()

    def test_a_deleted_object_is_a_value_error(self, verbs, article):
        article.delete()
        with pytest.raises(ValueError, match="unsaved"):
            verbs.lock(article)

    def test_the_lock_belongs_to_the_user_who_took_it(self, verbs, article, alice):
        verbs.lock(article, by=alice)
        assert LockToken.objects.get().locked_by == alice


class TestUnlock:
    def test_the_valid_token_removes_the_row(self, verbs, any_object):
        verbs.unlock(again(any_object), verbs.lock(any_object)["token"])
        assert verbs.is_locked(any_object) is False
        assert not LockToken.objects.exists()

    def test_the_valid_token_removes_an_expired_row(self, verbs, any_object, expired):
        verbs.unlock(any_object, expired)
        assert not LockToken.objects.exists()

    def test_a_stale_token_is_forbidden(self, verbs, any_object, expired):
        token = verbs.lock(any_object)["token"]

        with pytest.raises(UnlockForbiddenError) as caught:
            verbs.unlock(any_object, expired)

        target = target_of(any_object)
        assert str(caught.value) == (
            f"{target.label} {target.pk} was not unlocked: the token is not the one of its lock."
        )
        assert verbs.check_lock(any_object, token) is True

    @pytest.mark.parametrize("token", ["0" * 32, *NO_TOKENS], ids=repr)
    def test_what_is_not_the_token_is_forbidden(self, verbs, article, token):
        verbs.lock(article)
        with pytest.raises(UnlockForbiddenError):
            verbs.unlock(article, token)
        assert verbs.is_locked(article)

    def test_unlocking_what_is_not_locked_is_forbidden(self, verbs, article):
        with pytest.raises(UnlockForbiddenError):
            verbs.unlock(article, "0" * 32)

    def test_a_token_opens_only_the_lock_it_was_given_for(self, verbs, article):
        other = Article.objects.create(title="b")
        token = verbs.lock(article)["token"]
        verbs.lock(other)
        with pytest.raises(UnlockForbiddenError):
            verbs.unlock(other, token)
        with pytest.raises(InvalidToken):
            verbs.lock(other, token)
        assert verbs.check_lock(other, token) is False


class TestCheck:
    """Warnings are errors here, so a check that returns has not warned."""

    def test_the_valid_token_of_a_live_lock_is_true(self, verbs, any_object):
        assert verbs.check_lock(any_object, verbs.lock(any_object)["token"]) is True

    def test_the_valid_token_of_an_expired_lock_is_true_with_a_warning(
        self, verbs, any_object, expired
    ):
        with pytest.warns(LockExpiredWarning, match=r"^The lock has expired\.$"):
            assert verbs.check_lock(any_object, expired) is True

    def test_a_stale_token_is_false(self, verbs, any_object, expired):
        verbs.lock(any_object)
        assert verbs.check_lock(any_object, expired) is False

    def test_a_stale_token_is_false_even_when_the_lock_that_replaced_its_own_has_expired(
        self, verbs, any_object, expired, clock
    ):
        verbs.lock(any_object)
        clock.tick(timedelta(days=1))
        assert verbs.check_lock(any_object, expired) is False

    def test_without_a_lock_it_is_false_with_a_warning(self, verbs, any_object):
        with pytest.warns(NoLockWarning, match=r"^The object is not locked\.$"):
            assert verbs.check_lock(any_object, "0" * 32) is False

    @pytest.mark.parametrize("token", NO_TOKENS, ids=repr)
    def test_nothing_that_is_given_for_a_token_raises(self, verbs, article, token):
        verbs.lock(article)
        assert verbs.check_lock(article, token) is False

    def test_the_warning_points_at_the_caller(self, article):
        with pytest.warns(NoLockWarning) as caught:
            LockableModel.check_lock(article, "0" * 32)
        assert caught[0].filename == __file__

    def test_check_lock_token_is_the_same(self):
        assert LockableModel.check_lock_token is LockableModel.check_lock


class TestIsLocked:
    def test_it_is_false_without_a_lock(self, verbs, any_object):
        assert verbs.is_locked(any_object) is False

    def test_it_is_false_once_the_lock_has_expired(self, verbs, any_object, expired):
        assert verbs.is_locked(any_object) is False


def test_the_methods_of_a_lockable_model_are_the_same_verbs():
    page = Page.objects.create(title="a")
    token = page.lock(timeout=60)["token"]
    assert page.is_locked() is True
    assert page.check_lock(token) is page.check_lock_token(token) is True
    assert page.lock(token)["token"] == token
    page.unlock(token)
    assert page.is_locked() is False


class TestGetAndLock:
    @pytest.fixture(
        params=[
            (Page, lambda: Page.get_and_lock),
            (Page, lambda: Page.objects.get_and_lock),
            (Chapter, lambda: Chapter.get_and_lock),
            (Chapter, lambda: Chapter.objects.get_and_lock),
        ],
        ids=["Page", "Page.objects", "Chapter", "Chapter.objects"],
    )
    def road(self, request):
        model, get = request.param
        return model, get()

    def test_the_object_and_its_token_dict_are_returned(self, road):
        model, get_and_lock = road
        page = model.objects.create(title="a")

        found, result = get_and_lock(title="a")

        assert found == page
        assert LockToken.objects.get_for_object(page).serialize() == result

    @pytest.mark.parametrize("name", ["pk", "id"])
    def test_it_looks_up_by_key_too(self, road, name):
        model, get_and_lock = road
        page = model.objects.create(title="a")
        assert get_and_lock(**{name: page.pk})[0] == page

    def test_no_such_object_does_not_exist_and_nothing_is_locked(self, road):
        model, get_and_lock = road
        with pytest.raises(model.DoesNotExist):
            get_and_lock(pk=1)
        assert not LockToken.objects.exists()

    def test_more_than_one_object_is_refused_and_nothing_is_locked(self, road):
        model, get_and_lock = road
        model.objects.create(title="a")
        model.objects.create(title="a")
        with pytest.raises(model.MultipleObjectsReturned):
            get_and_lock(title="a")
        assert not LockToken.objects.exists()

    def test_a_locked_object_is_refused(self, road):
        model, get_and_lock = road
        page = model.objects.create(title="a")
        page.lock()
        with pytest.raises(AlreadyLockedError):
            get_and_lock(pk=page.pk)

    @pytest.fixture
    def meanwhile(self):
        """Let a function run as soon as any object was locked."""
        receivers = []

        def connect(receiver):
            receivers.append(receiver)
            object_locked.connect(receiver)

        yield connect
        for receiver in receivers:
            object_locked.disconnect(receiver)

    @pytest.mark.django_db(transaction=True)
    def test_the_object_is_read_after_its_lock_is_held(self, road, meanwhile):
        model, get_and_lock = road
        page = model.objects.create(title="before")

        def receiver(**kwargs):
            model.objects.update(title="after")

        meanwhile(receiver)
        assert get_and_lock(pk=page.pk)[0].title == "after"

    @pytest.mark.django_db(transaction=True)
    def test_an_object_that_meanwhile_is_another_is_not_left_locked(self, road, meanwhile):
        model, get_and_lock = road
        model.objects.create(title="before")

        def receiver(**kwargs):
            model.objects.update(title="after")

        meanwhile(receiver)
        with pytest.raises(ObjectDoesNotExist):
            get_and_lock(title="before")
        assert not LockToken.objects.exists()


class TestOneObjectIsOneLock:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (a, b)
            for group in ((Article, ArticleProxy), (Place, Restaurant, Bistro))
            for a in group
            for b in group
        ],
    )
    def test_by_each_of_its_classes(self, one, other):
        article, bistro = Article.objects.create(title="a"), Bistro.objects.create(name="a")
        pk = bistro.pk if issubclass(one, Place) else article.pk
        token = LockableModel.lock(one.objects.get(pk=pk))["token"]

        same = other.objects.get(pk=pk)
        assert LockableModel.is_locked(same)
        assert LockableModel.check_lock(same, token)
        with pytest.raises(AlreadyLockedError):
            LockableModel.lock(same)
        LockableModel.unlock(same, token)
        assert not LockableModel.is_locked(one.objects.get(pk=pk))

    def test_objects_of_two_models_with_one_key_are_two(self, article):
        place = Place.objects.create(pk=article.pk, name="a")
        LockableModel.lock(article)
        LockableModel.lock(place)
        assert LockToken.objects.count() == 2

    def test_the_greatest_key_of_64_bits_is_locked_as_any_other(self):
        # Not stored: MariaDB would then have no key left for the articles of other tests.
        obj = Article.from_db("default", ["id"], [2**63 - 1])
        token = LockableModel.lock(obj)["token"]
        assert LockableModel.check_lock(obj, token)
        assert LockToken.objects.get().locked_object_id == "9223372036854775807"

    def test_keys_that_differ_in_case_or_trailing_space_are_locked_apart(self):
        keys = ["key", "KEY", "key ", "ké", "ke"]
        # MariaDB takes some of them for one row, so they are not stored here.
        objects = [Slug.from_db("default", ["slug", "name"], [key, ""]) for key in keys]
        tokens = [LockableModel.lock(obj)["token"] for obj in objects]

        assert LockToken.objects.count() == len(keys)
        for key, obj, token in zip(keys, objects, tokens, strict=True):
            assert LockToken.objects.get_for_object(obj).locked_object_id == key
            assert [LockableModel.check_lock(obj, other) for other in tokens] == [
                other == token for other in tokens
            ]
        LockableModel.unlock(objects[0], tokens[0])
        assert [LockableModel.is_locked(obj) for obj in objects] == [False, *[True] * 4]


class TestToken:
    def test_it_is_32_hexadecimal_characters_each_time_others(self, article):
        token = LockableModel.lock(article)["token"]
        tokens = {token, *(get_random_token() for _ in range(100))}
        assert len(tokens) == 101
        assert all(re.fullmatch("[0-9a-f]{32}", each) for each in tokens)

    def test_it_is_in_no_text_that_anybody_might_print(self, article, alice, caplog):
        caplog.set_level(logging.DEBUG, "lock_tokens")
        token = LockableModel.lock(article, by=alice)["token"]
        texts = []
        for refused in (
            lambda: LockableModel.lock(article),
            lambda: LockableModel.lock(article, "0" * 32),
            lambda: LockableModel.unlock(article, "0" * 32),
        ):
            with pytest.raises((AlreadyLockedError, InvalidToken, UnlockForbiddenError)) as caught:
                refused()
            texts += [str(caught.value), repr(caught.value), repr(vars(caught.value))]
        row = LockToken.objects.get()
        texts += [str(row), repr(row)]
        LockToken.objects.break_lock(article, by=alice, reason="x")
        with pytest.raises(InvalidToken) as caught:
            LockableModel.lock(article, token)
        texts += [str(caught.value), repr(vars(caught.value)), caplog.text]

        assert "The lock of app.Article" in caplog.text
        assert [text for text in texts if token in text or "0" * 32 in text] == []

    def test_the_text_of_a_lock_says_what_it_is_on(self, article):
        LockableModel.lock(article)
        assert str(LockToken.objects.get()).lower() == f"app | article {article.pk}"

    def test_it_is_compared_in_constant_time(self, article, monkeypatch):
        token = LockableModel.lock(article)["token"]
        compared = []
        compare = secrets.compare_digest

        def spy(one, other):
            compared.append((one, other))
            return compare(one, other)

        monkeypatch.setattr(secrets, "compare_digest", spy)
        assert LockableModel.check_lock(article, token[:-1] + "x") is False
        assert LockableModel.check_lock(article, token) is True
        assert compared == [(token, token[:-1] + "x"), (token, token)]


class TestTimeout:
    @pytest.fixture(autouse=True)
    def _frozen(self, clock):
        self.clock = clock

    def expires(self):
        return LockToken.objects.get().get_expiration_datetime() - NOON

    def test_it_is_that_of_the_call(self, article):
        LockableModel.lock(article, timeout=7)
        assert self.expires() == timedelta(seconds=7)

    @pytest.mark.parametrize(
        ("make", "seconds"),
        [
            (lambda: Article.objects.create(title="a"), 600),
            (lambda: ArticleProxy.objects.create(title="a"), 600),
            (lambda: Bistro.objects.create(name="a"), 60),
            (lambda: Place.objects.create(name="a"), 30),
            (lambda: Page.objects.create(title="a"), 30),
        ],
    )
    def test_it_is_that_of_the_model_or_the_setting(self, settings, make, seconds):
        settings.LOCK_TOKENS = {
            "TIMEOUT": 30,
            "ENFORCED_MODELS": {"app.article": {"TIMEOUT": 600}, "app.Restaurant": {"TIMEOUT": 60}},
        }
        obj = make()
        LockableModel.lock(obj)
        assert self.expires() == timedelta(seconds=seconds)
        LockToken.objects.all().delete()
        LockableModel.lock(obj, timeout=1)
        assert self.expires() == timedelta(seconds=1)

    def test_a_renewed_lock_keeps_its_own(self, settings, article):
        token = LockableModel.lock(article, timeout=7)["token"]
        settings.LOCK_TOKENS = {"TIMEOUT": 9999}
        self.clock.tick(5)
        LockableModel.lock(article, token)
        assert self.expires() == timedelta(seconds=5 + 7)

    def test_a_renewal_may_change_it_for_good(self, article):
        token = LockableModel.lock(article, timeout=7)["token"]
        LockableModel.lock(article, token, timeout=100)
        assert self.expires() == timedelta(seconds=100)
        LockableModel.lock(article, token)
        assert self.expires() == timedelta(seconds=100)

    @pytest.mark.parametrize("timeout", [0, -1, 1.5, True, "60", 2147483648, []], ids=repr)
    @pytest.mark.parametrize("renewing", [False, True])
    def test_what_is_none_is_a_value_error(self, article, timeout, renewing):
        token = LockableModel.lock(article, timeout=7)["token"] if renewing else None

        with pytest.raises(ValueError, match="timeout") as caught:
            LockableModel.lock(article, token, timeout=timeout)

        assert str(caught.value) == (
            "A lock's timeout must be a whole number of seconds from 1 to 2147483647, "
            f"not {timeout!r}."
        )
        assert LockToken.objects.count() == (1 if renewing else 0)

    def test_the_longest_fits_into_every_database(self, article):
        token = LockableModel.lock(article, timeout=2147483647)["token"]
        assert LockableModel.check_lock(article, token)
        assert LockToken.objects.live().get().timeout == 2147483647


class TestIds:
    def test_they_grow_with_every_lock_and_are_never_used_again(self, article):
        ids = []
        for _ in range(3):
            token = LockableModel.lock(article)["token"]
            ids.append(LockToken.objects.get().pk)
            LockableModel.unlock(article, token)
        assert ids == sorted(set(ids))

    def test_they_grow_when_a_lock_is_taken_over_and_over(self, article):
        ids = []
        with freeze_time(NOON) as clock:
            for _ in range(3):
                LockableModel.lock(article)
                ids.append(LockToken.objects.get().pk)
                clock.tick(timedelta(hours=1))
        assert ids == sorted(set(ids))

    def test_they_have_64_bits(self, article):
        token = LockableModel.lock(article)["token"]
        # A great negative id, since the ids of later locks would be counted on from a great one.
        LockToken.objects.update(id=-(2**40))
        LockToken.objects.get(pk=-(2**40)).renew()
        assert LockableModel.check_lock(article, token)
        assert LockToken._meta.pk.get_internal_type() == "BigAutoField"

    def test_a_refused_taker_leaves_the_row_as_it_is(self, article):
        LockableModel.lock(article)
        before = LockToken.objects.values().get()
        with pytest.raises(AlreadyLockedError):
            LockableModel.lock(article)
        assert LockToken.objects.values().get() == before


class TestRow:
    """A ``LockToken`` instance: a view of its row that can never outlive it."""

    @pytest.fixture
    def row(self, article, clock):
        LockableModel.lock(article, timeout=60)
        return LockToken.objects.get()

    @pytest.fixture(params=["removed", "replaced"])
    def gone(self, request, row, article, clock):
        if request.param == "removed":
            LockableModel.unlock(article, row.token_str)
        else:
            clock.tick(60)
            LockableModel.lock(article)
        return row

    @pytest.mark.parametrize(
        "write",
        [
            lambda row: row.renew(),
            lambda row: row.save(),
            lambda row: row.save(update_fields=["locked_at"]),
        ],
        ids=["renew", "save", "save fields"],
    )
    def test_it_does_not_come_back_once_it_is_gone(self, gone, write):
        before = list(LockToken.objects.values())
        with pytest.raises(InvalidToken):
            write(gone)
        assert list(LockToken.objects.values()) == before

    def test_renewing_moves_the_expiry(self, row, clock):
        clock.tick(30)
        row.renew()
        assert row.get_expiration_datetime() == NOON + timedelta(seconds=90)
        row.refresh_from_db()
        assert row.expires_at == NOON + timedelta(seconds=90)
        assert row.timeout == 60

    @pytest.mark.parametrize(
        "move",
        [
            lambda row, moment: (setattr(row, "locked_at", moment), row.save()),
            lambda row, moment: (
                setattr(row, "locked_at", moment),
                row.save(update_fields={"locked_at"}),
            ),
            lambda row, moment: LockToken.objects.filter(pk=row.pk).update(locked_at=moment),
        ],
        ids=["save", "save fields", "update"],
    )
    def test_moving_locked_at_moves_the_expiry(self, row, article, move):
        move(row, NOON - timedelta(seconds=60))

        row.refresh_from_db()
        assert row.expires_at == row.get_expiration_datetime() == NOON
        assert row.has_expired()
        assert not LockableModel.is_locked(article)
        assert list(LockToken.objects.expired()) == [row]

    def test_a_new_one_takes_the_lock(self, article, clock):
        row = LockToken(locked_object=article)
        row.save()
        assert LockableModel.check_lock(article, row.token_str)
        assert row.pk == LockToken.objects.get().pk

    def test_create_takes_the_lock_and_is_refused_like_anybody(self, article):
        row = LockToken.objects.create(locked_object=article)
        assert LockableModel.check_lock(article, row.token_str)
        with pytest.raises(AlreadyLockedError):
            LockToken.objects.create(locked_object=article)

    def test_a_row_of_a_model_that_is_gone_can_be_shown_and_not_renewed(self, row):
        types = type(row.locked_object_content_type).objects
        row.locked_object_content_type = types.create(app_label="gone", model="thing")
        row.save()
        row = LockToken.objects.get()
        assert row.locked_object is None
        assert str(row).endswith(f"thing {row.locked_object_id}")
        row.locked_at = NOON - timedelta(days=1)
        row.save()
        assert row.has_expired()

    def test_serialize_says_nothing_but_token_and_expiry(self, row):
        assert row.serialize() == {"token": row.token_str, "expires": "2026-03-01 12:01:00 UTC"}

    def test_deleting_the_user_leaves_the_lock(self, article, alice):
        token = LockableModel.lock(article, by=alice)["token"]
        alice.delete()
        assert LockableModel.check_lock(article, token)
        assert LockToken.objects.get().locked_by is None


def test_the_locked_object_is_found_once_and_then_remembered(
    any_object, django_assert_max_num_queries
):
    LockableModel.lock(any_object)
    row = LockToken.objects.get()
    with django_assert_max_num_queries(1):
        assert row.locked_object.pk == any_object.pk
        assert row.locked_object is row.locked_object


@pytest.mark.parametrize(
    "make",
    [
        lambda: Article.objects.create(title="a"),
        lambda: Line.objects.create(order=1, number=2),
    ],
)
def test_the_locked_object_is_none_once_it_is_gone(make):
    obj = make()
    LockableModel.lock(obj)
    type(obj).objects.all().delete()
    assert LockToken.objects.get().locked_object is None


@pytest.mark.parametrize("model", [Page, Chapter])
def test_a_deleted_lockable_object_takes_its_lock_along(model):
    obj = model.objects.create(title="a")
    obj.lock()
    key = obj.pk
    obj.delete()
    assert not LockToken.objects.exists()
    assert model.objects.create(pk=key, title="b").is_locked() is False


def test_no_column_is_added_to_a_lockable_model():
    assert {field.name for field in Page._meta.get_fields()} == {"id", "title"}
