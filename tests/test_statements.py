"""How many statements each verb costs; BEGIN, COMMIT and savepoints do not count."""

from datetime import datetime, timedelta, timezone

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from freezegun import freeze_time

from lock_tokens import locking
from lock_tokens.exceptions import AlreadyLockedError, InvalidToken, UnlockForbiddenError
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.statements import statements_for
from lock_tokens.targets import root_of, target_of
from tests.app.models import Article, Chapter, Page, Slug

pytestmark = pytest.mark.django_db

# MariaDB's insertion returns the row that is in its way.
TOLD = int(connection.vendor == "mysql")
TOMORROW = datetime.now(timezone.utc) + timedelta(days=1)


@pytest.fixture
def obj(any_object):
    # Django remembers content types; a process asks for each of them once.
    ContentType.objects.get_for_model(root_of(type(any_object)))
    return any_object


def test_acquire_is_1(obj, assert_statements):
    with assert_statements(1):
        LockableModel.lock(obj)


def test_refused_is_2(obj, lock, assert_statements):
    lock(obj)
    with assert_statements(2 - TOLD), pytest.raises(AlreadyLockedError):
        LockableModel.lock(obj)


def test_take_over_is_3(obj, lock, assert_statements):
    lock(obj)
    with freeze_time(TOMORROW), assert_statements(3 - TOLD):
        LockableModel.lock(obj)


def test_renew_is_1(obj, lock, assert_statements):
    token = lock(obj)
    with assert_statements(1):
        LockableModel.lock(obj, token)
    row = LockToken.objects.get()
    with assert_statements(1):
        row.renew()


def test_a_renewal_that_is_refused_is_1(obj, lock, assert_statements):
    lock(obj)
    with assert_statements(1), pytest.raises(InvalidToken):
        LockableModel.lock(obj, "0" * 32)


def test_check_is_1(obj, lock, assert_statements):
    token = lock(obj)
    with assert_statements(1):
        LockableModel.check_lock(obj, token)


def test_is_locked_is_1(obj, lock, assert_statements):
    with assert_statements(1):
        LockableModel.is_locked(obj)
    lock(obj)
    with assert_statements(1):
        LockableModel.is_locked(obj)


def test_release_is_1(obj, lock, assert_statements):
    token = lock(obj)
    with assert_statements(1), pytest.raises(UnlockForbiddenError):
        LockableModel.unlock(obj, "0" * 32)
    with assert_statements(1):
        LockableModel.unlock(obj, token)


def test_break_lock_is_1(obj, lock, assert_statements):
    lock(obj)
    with assert_statements(1):
        LockToken.objects.break_lock(obj)


def test_hold_is_1(obj, lock, assert_statements):
    lock(obj)
    with assert_statements(1):
        locking.hold(target_of(obj))


@pytest.mark.parametrize("model", [Page, Chapter])
def test_get_and_lock_is_3(model, assert_statements):
    obj = model.objects.create(title="a")
    target_of(obj)
    with assert_statements(3):
        model.get_and_lock(title="a")


def test_for_objects_is_1_a_model(lock, assert_statements):
    objects = [model.objects.create(title="a") for model in [Article, Page] for _ in range(20)]
    objects += [Slug.objects.create(slug=str(number)) for number in range(20)]
    for obj in objects[::2]:
        lock(obj)
    with assert_statements(3):
        found = LockToken.objects.for_objects(objects)
    assert set(found) == set(objects[::2])


def test_another_database_is_refused_by_name():
    with pytest.raises(NotImplementedError) as caught:
        statements_for("oracle")
    assert str(caught.value) == "django-lock-tokens does not support oracle databases."
