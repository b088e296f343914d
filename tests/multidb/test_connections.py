"""A lock is a row and nothing of a connection, so any connection of a pool will do."""

import re
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection

from lock_tokens.enforcement import holding
from lock_tokens.exceptions import AlreadyLockedError, ObjectLocked
from lock_tokens.models import LockableModel
from tests.app.models import Article

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)

SENT = {"BEGIN", "SELECT", "INSERT", "UPDATE", "DELETE", "SAVEPOINT", "RELEASE"}


@pytest.fixture
def article(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"]}
    return Article.objects.create(title="old")


def life_of_a_lock(article, after_each_step):
    """Take, refuse, write with and without the token, renew, check and release."""
    token = LockableModel.lock(article)["token"]
    after_each_step()
    with pytest.raises(AlreadyLockedError):
        LockableModel.lock(article)
    after_each_step()
    with pytest.raises(ObjectLocked):
        article.save()
    after_each_step()
    with holding(token):
        article.title = "new"
        article.save()
        after_each_step()
        Article.objects.update(body="new")
    after_each_step()
    LockableModel.lock(article, token)
    after_each_step()
    assert LockableModel.check_lock(article, token)
    after_each_step()
    LockableModel.unlock(article, token)
    after_each_step()
    assert list(Article.objects.values_list("title", "body")) == [("new", "new")]


def test_a_lock_outlives_the_connection_it_was_taken_on(article):
    life_of_a_lock(article, connection.close)


def test_no_statement_leaves_anything_in_a_connection(article):
    sent = set()

    def note(execute, sql, params, many, context):
        # SET STATEMENT … FOR, of MariaDB, ends with the statement.
        sent.add(re.sub("^SET STATEMENT .* FOR ", "", sql).lstrip("( ").split()[0].upper())
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        life_of_a_lock(article, lambda: None)
        call_command("remove_expired_locks", stdout=StringIO())
    assert sent <= SENT
