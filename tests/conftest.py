"""Objects with keys of every shape, and the helpers that the package ships for tests."""

from contextlib import contextmanager
from datetime import datetime, timezone
from uuid import UUID

import pytest
import rest_framework.compat  # noqa: F401 - imports a driver, which needs the real datetime
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connection
from django.test.utils import CaptureQueriesContext

from lock_tokens.models import LockableModel
from tests.app.models import (
    Article,
    ArticleProxy,
    Bistro,
    Chapter,
    Dated,
    Line,
    Page,
    Place,
    Profile,
    Restaurant,
    Slug,
    Uuid,
)

pytest_plugins = ["lock_tokens.testing"]

SHAPES = {
    "integer": lambda: Article.objects.create(title="a"),
    "64 bits": lambda: Article.objects.create(pk=2**40, title="a"),
    "lockable": lambda: Page.objects.create(title="a"),
    "own manager": lambda: Chapter.objects.create(title="a"),
    "proxy": lambda: ArticleProxy.objects.create(title="a"),
    "parent": lambda: Place.objects.create(name="a"),
    "child": lambda: Restaurant.objects.create(name="a"),
    "grandchild": lambda: Bistro.objects.create(name="a"),
    "uuid": lambda: Uuid.objects.create(id=UUID(int=7), name="a"),
    "text": lambda: Slug.objects.create(slug="A/b c"),
    "long text": lambda: Slug.objects.create(slug="é" * 255),
    "composite": lambda: Line.objects.create(order=1, number=2),
    "relation": lambda: Profile.objects.create(article=Article.objects.create(title="a")),
    "moment": lambda: Dated.objects.create(at=datetime(2026, 1, 2, 3, 4, 5, 6, timezone.utc)),
    "third-party": lambda: Group.objects.create(name="a"),
}


@pytest.fixture(params=SHAPES)
def any_object(request, db):
    """A saved object, of each shape that a key can have."""
    return SHAPES[request.param]()


@pytest.fixture
def article(db):
    return Article.objects.create(title="A")


@pytest.fixture
def alice(db):
    return get_user_model().objects.create_user("alice")


@pytest.fixture
def bob(db):
    return get_user_model().objects.create_user("bob")


@pytest.fixture
def lock():
    """Lock an object, of any model, and return the token."""
    return lambda obj, **options: LockableModel.lock(obj, **options)["token"]


OF_TRANSACTIONS = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


def _counted(captured):
    return [query["sql"] for query in captured if not query["sql"].startswith(OF_TRANSACTIONS)]


@pytest.fixture
def count_statements():
    """Count the statements of a call, but not those that begin and end transactions."""

    def count(call):
        with CaptureQueriesContext(connection) as captured:
            call()
        return len(_counted(captured))

    return count


@pytest.fixture
def assert_statements():
    """Assert that a block costs just so many statements, transactions not counted."""

    @contextmanager
    def check(expected):
        with CaptureQueriesContext(connection) as captured:
            yield
        found = _counted(captured)
        assert len(found) == expected, found

    return check
