"""The status of locks on objects that are not in the database of the users."""

import pytest
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import connections
from django.template import Context, Template
from django.test.utils import CaptureQueriesContext

from lock_tokens.models import LockableModel
from tests.app.models import Article
from tests.multidb.test_databases import HERE, THERE, ByApp

pytestmark = pytest.mark.django_db(databases="__all__")

ROWS = Template(
    "{% load lock_tokens_tags %}{% for a in rows %}"
    "{% lock_status a as lock %}{{ lock.by|default:lock.is_locked }} {% endfor %}"
)


@pytest.fixture
def alice(settings):
    settings.LOCK_TOKENS = {"SHOW_HOLDER": True}
    # One of the same key there, who is somebody else.
    alice = User.objects.create_user("alice")
    User.objects.using(THERE).create(pk=alice.pk, username="mallory")
    return alice


def test_holders_in_another_database_cost_one_statement_more(settings, alice):
    settings.DATABASE_ROUTERS = [ByApp()]
    rows = [Article.objects.create(title=title) for title in "abc"]
    for each in rows[:2]:
        LockableModel.lock(each, by=alice)
    ContentType.objects.db_manager(THERE).get_for_model(Article)
    with (
        CaptureQueriesContext(connections[HERE]) as here,
        CaptureQueriesContext(connections[THERE]) as there,
    ):
        assert ROWS.render(Context({"rows": rows})) == "alice alice False "
    assert (len(here), len(there)) == (1, 1)


def test_the_same_key_in_another_database_is_another_object(alice):
    rows = [Article.objects.using(alias).create(pk=1, title="a") for alias in (HERE, THERE)]
    LockableModel.lock(rows[1], by=alice)
    assert ROWS.render(Context({"rows": rows})) == "False alice "
