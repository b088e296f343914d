"""The errors: what they are, what they say, and to whom they say who holds the lock."""

from datetime import datetime, timezone

import pytest
from django.core.exceptions import PermissionDenied
from django.utils import translation
from freezegun import freeze_time

from lock_tokens import exceptions
from lock_tokens.exceptions import (
    AlreadyLockedError,
    InvalidToken,
    LockExpiredWarning,
    LockFacts,
    LockRequired,
    LockTokensError,
    NoLockWarning,
    ObjectLocked,
    StaleToken,
    UnlockForbiddenError,
    WriteRefused,
)
from lock_tokens.models import LockableModel

SINCE = datetime(2026, 3, 1, 12, 0, 0, 123456, timezone.utc)
UNTIL = datetime(2026, 3, 1, 13, 0, 0, 123456, timezone.utc)


@pytest.mark.parametrize(
    ("error", "bases"),
    [
        (LockTokensError, [Exception]),
        # OSError, because those of 0.2.5 were.
        (AlreadyLockedError, [LockTokensError, OSError]),
        (InvalidToken, [LockTokensError, OSError]),
        (UnlockForbiddenError, [LockTokensError, OSError]),
        (WriteRefused, [LockTokensError, PermissionDenied]),
        (ObjectLocked, [WriteRefused]),
        (LockRequired, [WriteRefused]),
        (StaleToken, [WriteRefused]),
        (NoLockWarning, [Warning]),
        (LockExpiredWarning, [Warning]),
    ],
)
def test_what_each_is(error, bases):
    assert list(error.__bases__) == bases
    assert error.__doc__


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (AlreadyLockedError, 423),
        (ObjectLocked, 423),
        (LockRequired, 428),
        (StaleToken, 412),
        (InvalidToken, 412),
        (UnlockForbiddenError, 403),
    ],
)
def test_the_status_of_each(error, status):
    assert error.status == status


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (LockTokensError, "The operation on app.Article 7 was refused."),
        (AlreadyLockedError, "app.Article 7 is already locked; try again when it is free."),
        (
            InvalidToken,
            "The token is not the one of the lock on app.Article 7; "
            "lock the object again and reload it.",
        ),
        (
            UnlockForbiddenError,
            "app.Article 7 was not unlocked: the token is not the one of its lock.",
        ),
        (WriteRefused, "The write of app.Article 7 was refused."),
        (
            ObjectLocked,
            "app.Article 7 was not written: it is locked and the token of that lock was not "
            "presented.",
        ),
        (
            LockRequired,
            "app.Article 7 was not written: lock it first and present the token (header, form "
            "field, session or lock_tokens.enforcement.locked).",
        ),
        (
            StaleToken,
            "app.Article 7 was not written: the presented token is stale, somebody may have "
            "changed the object since; reload it and lock it again.",
        ),
    ],
)
class TestMessages:
    def test_each_says_which_object(self, error, message):
        raised = error(model_label="app.Article", pk=7)
        assert str(raised) == message
        assert (raised.model_label, raised.pk, raised.lock) == ("app.Article", 7, None)

    def test_each_says_since_when_and_until_when(self, error, message):
        raised = error(model_label="app.Article", pk=7, lock=LockFacts(SINCE, UNTIL))
        assert str(raised) == (
            f"{message} Locked since 2026-03-01 12:00:00+00:00 until 2026-03-01 13:00:00+00:00."
        )

    def test_each_says_by_whom_where_that_is_known(self, error, message):
        raised = error(model_label="app.Article", pk=7, lock=LockFacts(SINCE, UNTIL, by="alice"))
        assert str(raised) == (
            f"{message} Locked since 2026-03-01 12:00:00+00:00 until "
            "2026-03-01 13:00:00+00:00 by alice."
        )

    def test_each_can_be_raised_bare(self, error, message):
        assert str(error()) == message.replace("app.Article 7", "this object")

    def test_each_can_say_something_else(self, error, message):
        assert str(error("Something else.", pk=7)) == "Something else."


def test_the_words_are_translated_when_the_error_is_made():
    with translation.override(None):
        assert str(UnlockForbiddenError()).startswith("this object was not unlocked")


def test_no_other_error_is_made_here():
    names = {
        name
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and value.__module__ == exceptions.__name__
    }
    assert names == {
        "AlreadyLockedError",
        "InvalidToken",
        "LockExpiredWarning",
        "LockFacts",
        "LockRequired",
        "LockTokensError",
        "NoLockWarning",
        "ObjectLocked",
        "StaleToken",
        "UnlockForbiddenError",
        "WriteRefused",
    }


class TestShowHolder:
    @pytest.mark.parametrize(
        ("show", "authenticated", "told"),
        [
            (True, True, "alice"),
            (True, False, "alice"),
            ("authenticated", True, "alice"),
            ("authenticated", False, None),
            (False, True, None),
            (False, False, None),
        ],
    )
    def test_it_decides_who_is_told(self, settings, show, authenticated, told):
        settings.LOCK_TOKENS = {"SHOW_HOLDER": show}
        facts = LockFacts(SINCE, UNTIL, _holder="alice")
        assert facts.told_to(authenticated=authenticated).by == told

    @pytest.mark.parametrize(
        ("show", "as_bob", "told"),
        [
            (True, True, "alice"),
            (True, False, "alice"),
            ("authenticated", True, "alice"),
            ("authenticated", False, None),
            (False, True, None),
            (False, False, None),
        ],
    )
    @freeze_time(SINCE)
    def test_a_refused_taker_is_told_accordingly(
        self, settings, article, alice, bob, show, as_bob, told
    ):
        settings.LOCK_TOKENS = {"SHOW_HOLDER": show}
        LockableModel.lock(article, by=alice)

        with pytest.raises(AlreadyLockedError) as caught:
            LockableModel.lock(article, by=bob if as_bob else None)

        assert caught.value.lock.by == told
        assert ("alice" in str(caught.value)) is (told is not None)
        assert "alice" not in repr(caught.value.lock) or told
        assert caught.value.lock == LockFacts(SINCE, UNTIL, by=told)

    def test_a_lock_without_a_holder_names_nobody(self, settings, article):
        settings.LOCK_TOKENS = {"SHOW_HOLDER": True}
        LockableModel.lock(article)
        with pytest.raises(AlreadyLockedError) as caught:
            LockableModel.lock(article)
        assert caught.value.lock.by is None
        assert " by " not in str(caught.value)
