"""Two editors of the admin, at noon."""

import pytest
from freezegun import freeze_time

from tests.admin.browser import Browser


@pytest.fixture
def noon():
    with freeze_time("2026-11-22 12:00:00") as clock:
        yield clock


@pytest.fixture
def alice(db):
    return Browser("alice")


@pytest.fixture
def bob(db):
    return Browser("bob")
