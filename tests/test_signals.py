"""What happened to a lock is told to listeners: once, after the commit, without the token."""

import logging
from datetime import datetime, timedelta, timezone

import pytest
from django.db import connection, transaction
from django.urls import reverse
from freezegun import freeze_time

from lock_tokens import signals
from lock_tokens.enforcement import holding
from lock_tokens.exceptions import (
    AlreadyLockedError,
    InvalidToken,
    LockFacts,
    LockRequired,
    ObjectLocked,
    StaleToken,
    UnlockForbiddenError,
)
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.targets import root_of, target_of
from tests.app.models import Article

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, timezone.utc)
LONG_AGO = datetime(2026, 3, 1, 10, 0, 0, 0, timezone.utc)
HOUR = timedelta(hours=1)
NAMES = [
    "object_locked",
    "lock_renewed",
    "object_unlocked",
    "lock_taken_over",
    "lock_broken",
    "write_refused",
]


class Heard(list):
    """What listeners were told: ``(name of the signal, kwargs)``."""

    def listener(self, name):
        def listen(sender, signal, **kwargs):
            self.append((name, {"sender": sender, **kwargs}))

        return listen


# MariaDB's insertion returns the row that is in its way.
TAKE_OVER = 2 if connection.vendor == "mysql" else 3


@pytest.fixture
def heard():
    heard = Heard()
    listeners = {name: heard.listener(name) for name in NAMES}
    for name, listener in listeners.items():
        getattr(signals, name).connect(listener)
    yield heard
    for name, listener in listeners.items():
        assert getattr(signals, name).disconnect(listener)


@pytest.fixture
def broken_listeners():
    """Listeners that raise, connected to every signal."""

    def listen(signal, **kwargs):
        raise RuntimeError("a listener's own trouble")

    for name in NAMES:
        getattr(signals, name).connect(listen)
    yield listen
    for name in NAMES:
        getattr(signals, name).disconnect(listen)


@pytest.fixture(autouse=True)
def clock():
    with freeze_time(NOON) as frozen:
        yield frozen


def since(moment):
    return LockFacts(moment, moment + HOUR)


# Each verb: what it needs (a token, if the object is to be locked before, and since when), how it
# is done, and what listeners are told besides sender, pk and using.


def take(obj, token):
    return LockableModel.lock(obj)["token"]


def renew(obj, token):
    return LockableModel.lock(obj, token)["token"]


def release(obj, token):
    LockableModel.unlock(obj, token)


def break_(obj, token):
    assert LockToken.objects.break_lock(obj, by="the chief", reason="gone home")


VERBS = {
    "object_locked": (None, take, {"lock": since(NOON)}),
    "lock_renewed": (LONG_AGO, renew, {"lock": since(NOON)}),
    "object_unlocked": (NOON, release, {"lock": since(NOON)}),
    "lock_taken_over": (LONG_AGO, take, {"lock": since(NOON), "previous": since(LONG_AGO)}),
    "lock_broken": (
        NOON,
        break_,
        {"lock": since(NOON), "by": "the chief", "reason": "gone home"},
    ),
}


@pytest.fixture(params=VERBS)
def verb(request):
    """A function that prepares ``obj``, and returns one that does the verb."""
    name, (locked_at, do, told) = request.param, VERBS[request.param]

    def prepare(obj):
        token = None
        # Whatever its content type costs is paid before.
        target_of(obj)
        if locked_at:
            with freeze_time(locked_at):
                token = LockableModel.lock(obj)["token"]
        return lambda: do(obj, token)

    prepare.name, prepare.told = name, told
    return prepare


def tokens():
    return list(LockToken.objects.values_list("token_str", flat=True))


@pytest.mark.django_db(transaction=True)
class TestVerbs:
    def test_listeners_are_told_once_what_happened_to_which_object(self, verb, any_object, heard):
        do = verb(any_object)
        heard.clear()
        do()
        root = root_of(type(any_object))
        assert heard == [
            (
                verb.name,
                {"sender": root, "pk": any_object.pk, "using": "default", **verb.told},
            )
        ]

    def test_no_listener_is_told_a_token(self, verb, article, heard):
        do = verb(article)
        secret = tokens()
        do()
        secret += tokens()
        assert secret
        assert heard
        assert not any(token in repr(heard) for token in secret)

    def test_a_listener_of_another_model_is_not_told(self, verb, article):
        do, told = verb(article), []

        def listen(**kwargs):
            told.append(kwargs)

        signal = getattr(signals, verb.name)
        signal.connect(listen, sender=LockToken)
        try:
            do()
        finally:
            signal.disconnect(listen, sender=LockToken)
        assert told == []

    def test_it_is_sent_when_the_transaction_is_committed_and_not_before(
        self, verb, article, heard
    ):
        do = verb(article)
        heard.clear()
        with transaction.atomic():
            with transaction.atomic():
                do()
            assert heard == []
        assert [name for name, _kwargs in heard] == [verb.name]

    @pytest.mark.parametrize("is_nested", [False, True])
    def test_it_is_not_sent_when_the_transaction_is_rolled_back(
        self, verb, article, heard, is_nested
    ):
        do = verb(article)
        before = tokens()
        heard.clear()
        with transaction.atomic():
            if is_nested:
                with transaction.atomic():
                    do()
                    transaction.set_rollback(True)
            else:
                do()
                transaction.set_rollback(True)
        assert heard == []
        assert tokens() == before

    def test_the_listener_sees_what_was_committed(self, article):
        seen = []

        def listen(**kwargs):
            seen.append((connection.in_atomic_block, LockToken.objects.count()))

        signals.object_locked.connect(listen)
        try:
            with transaction.atomic():
                LockableModel.lock(article)
        finally:
            signals.object_locked.disconnect(listen)
        assert seen == [(False, 1)]

    @pytest.mark.parametrize("in_transaction", [False, True])
    def test_a_listener_that_raises_costs_nobody_the_result(
        self, verb, article, broken_listeners, heard, caplog, in_transaction
    ):
        do = verb(article)
        heard.clear()
        if in_transaction:
            with transaction.atomic():
                token = do()
        else:
            token = do()
        assert tokens() == ([token] if token else [])
        # Nor does it keep the others from being told.
        assert [name for name, _kwargs in heard] == [verb.name]
        errors = [each for each in caplog.records if each.levelno >= logging.ERROR]
        assert errors
        assert all(each.exc_info[1].args == ("a listener's own trouble",) for each in errors)
        assert not any(each in caplog.text for each in tokens())

    @pytest.mark.parametrize("is_heard", [True, False])
    def test_a_listener_costs_no_statement_and_none_costs_not_even_a_callback(
        self,
        request,
        verb,
        article,
        is_heard,
        assert_statements,
        django_capture_on_commit_callbacks,
    ):
        do = verb(article)
        if is_heard:
            request.getfixturevalue("heard")
        with (
            transaction.atomic(),
            django_capture_on_commit_callbacks() as callbacks,
            assert_statements(TAKE_OVER if verb.name == "lock_taken_over" else 1),
        ):
            do()
        assert len(callbacks) == int(is_heard)


@pytest.mark.django_db(transaction=True)
class TestFailures:
    """What did not happen is not told."""

    @pytest.mark.parametrize(
        ("do", "error"),
        [
            (lambda obj: LockableModel.lock(obj), AlreadyLockedError),
            (lambda obj: LockableModel.lock(obj, "0" * 32), InvalidToken),
            (lambda obj: LockableModel.unlock(obj, "0" * 32), UnlockForbiddenError),
        ],
        ids=["lock", "renew", "unlock"],
    )
    def test_a_verb_that_fails_is_silent(self, article, lock, heard, do, error):
        lock(article)
        heard.clear()
        with pytest.raises(error):
            do(article)
        assert heard == []

    def test_breaking_no_lock_is_silent(self, article, heard):
        assert LockToken.objects.break_lock(article, reason="tidy") is False
        assert heard == []


class TestWriteRefused:
    @pytest.fixture(autouse=True)
    def enforced(self, settings):
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"]}

    @pytest.fixture(params=[ObjectLocked, LockRequired, StaleToken])
    def kind(self, request, db):
        return request.param

    @pytest.fixture
    def token(self, kind, article, lock):
        """A token that makes a write be refused with ``kind``; ``None`` for none at all."""
        token = lock(article)
        if kind is ObjectLocked:
            return "0" * 32
        LockableModel.unlock(article, token)
        return token if kind is StaleToken else None

    def write(self, article, token):
        article.title = "new"
        if token:
            with holding(token):
                article.save()
        else:
            article.save()

    def test_it_is_sent_at_once_with_the_very_error(self, kind, article, token, heard):
        heard.clear()
        with pytest.raises(kind) as caught:
            self.write(article, token)
        facts = since(NOON) if kind is ObjectLocked else None
        assert caught.value.lock == facts
        line = next(each.lineno for each in caught.traceback if each.name == "write") + 1
        assert heard == [
            (
                "write_refused",
                {
                    "sender": Article,
                    "pk": article.pk,
                    "using": "default",
                    "lock": facts,
                    "error": caught.value,
                    "reason": kind.__name__,
                    "request": None,
                    "path": None,
                    "caller": f"{__file__}:{line}",
                },
            )
        ]

    @pytest.mark.django_db(transaction=True)
    def test_it_is_sent_although_the_transaction_is_rolled_back(self, article, heard):
        with pytest.raises(LockRequired), transaction.atomic():
            article.save()
        assert [name for name, _kwargs in heard] == ["write_refused"]

    def test_no_token_is_told(self, kind, article, token, heard):
        with pytest.raises(kind):
            self.write(article, token)
        _name, kwargs = heard[-1]
        secret = [*tokens(), *([token] if token else [])]
        shown = repr(kwargs) + str(kwargs["error"]) + repr(vars(kwargs["error"]))
        assert not any(each in shown for each in secret)

    @pytest.mark.parametrize("name", ["save", "asave"])
    def test_it_carries_the_request(self, db, client, article, heard, name):
        url = reverse(f"enforced:{name}", args=[article.pk])
        assert client.post(url).status_code == LockRequired.status
        (told,) = [kwargs for name, kwargs in heard if name == "write_refused"]
        assert (told["request"].method, told["request"].path) == ("POST", url)
        assert told["path"] == url

    def test_a_listener_that_raises_costs_the_writer_no_refusal(
        self, kind, article, token, broken_listeners, heard
    ):
        heard.clear()
        with pytest.raises(kind):
            self.write(article, token)
        assert [name for name, _kwargs in heard] == ["write_refused"]
        article.refresh_from_db()
        assert article.title == "A"

    def test_over_http_too(self, db, client, article, broken_listeners):
        response = client.post(reverse("enforced:save", args=[article.pk]))
        assert response.status_code == LockRequired.status
        article.refresh_from_db()
        assert article.title == "A"

    def test_a_write_that_is_allowed_is_silent(self, db, article, lock, heard):
        token = lock(article)
        heard.clear()
        self.write(article, token)
        assert heard == []
