"""A lock lives beside its object: the same key in another database is another object."""

from datetime import datetime, timedelta, timezone
from io import StringIO

import pytest
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connections
from django.db.models.signals import post_save
from django.test import RequestFactory
from freezegun import freeze_time

from lock_tokens.enforcement import holding, locked, locks
from lock_tokens.enforcement.context import in_view
from lock_tokens.exceptions import (
    AlreadyLockedError,
    LockRequired,
    ObjectLocked,
    StaleToken,
    UnlockForbiddenError,
)
from lock_tokens.managers import LockableModelManager
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.sessions import (
    check_for_session,
    get_session_key,
    lock_for_session,
    release_all,
    unlock_for_session,
)
from lock_tokens.tokens import RequestTokens
from tests.app.models import Article, Correction, Story, Tag
from tests.enforcement.test_checks import found as warnings_of_checks

HERE, THERE = "default", "other"
ALIASES = [HERE, THERE]
NOON = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)

pytestmark = pytest.mark.django_db(databases="__all__")


class ByApp:
    """Keeps the project's own objects in a database of their own, and says so of everything."""

    def db_for_read(self, model, **hints):
        return THERE if model._meta.app_label == "app" else HERE

    db_for_write = db_for_read


@pytest.fixture
def pair():
    """Two articles with the same key, in two databases."""
    return tuple(Article.objects.using(alias).create(pk=1, title=alias) for alias in ALIASES)


@pytest.fixture
def article(settings):
    """An article that a router keeps in the other database."""
    settings.DATABASE_ROUTERS = [ByApp()]
    return Article.objects.create(title="a")


@pytest.fixture
def enforced(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article", "app.Story", "app.Tag"]}


def locks_in(alias):
    return list(LockToken.objects.using(alias).values_list("token_str", flat=True))


class TestOneKeyInTwoDatabases:
    def test_is_two_locks(self, pair, lock):
        tokens = [lock(obj) for obj in pair]
        assert [locks_in(alias) for alias in ALIASES] == [[token] for token in tokens]
        for obj, token, other in zip(pair, tokens, reversed(tokens), strict=True):
            assert LockableModel.check_lock(obj, token)
            assert not LockableModel.check_lock(obj, other)
            with pytest.raises(UnlockForbiddenError):
                LockableModel.unlock(obj, other)

    def test_is_filed_under_the_content_type_of_its_database(self, pair, lock):
        for obj, alias in zip(pair, ALIASES, strict=True):
            lock(obj)
            [found] = LockToken.objects.using(alias).all()
            types = ContentType.objects.using(alias).filter(app_label="app", model="article")
            assert [found.locked_object_content_type_id] == list(types.values_list("pk", flat=True))
            assert found.locked_object == obj
            assert found.locked_object._state.db == alias

    def test_is_found_for_each_object(self, pair, lock):
        tokens = {obj._state.db: lock(obj) for obj in pair}
        for obj in pair:
            assert LockToken.objects.get_for_object(obj).token_str == tokens[obj._state.db]
            [found] = LockToken.objects.for_objects([obj]).values()
            assert found.token_str == tokens[obj._state.db]
        # The objects are equal to Django, so they are asked for one by one.
        type_ = ContentType.objects.get_for_model(Article)
        for alias in ALIASES:
            locks = LockToken.objects.db_manager(alias)
            found = locks.get_for_contenttype_and_id(type_, 1)
            assert found.token_str == tokens[alias]

    def test_is_broken_for_one(self, pair, lock):
        here, there = pair
        lock(here), lock(there)
        LockToken.objects.break_lock(there)
        assert [LockableModel.is_locked(obj) for obj in pair] == [True, False]

    def test_is_two_names_in_a_session(self, pair):
        session = SessionStore()
        for obj in pair:
            lock_for_session(obj, session)
        assert [check_for_session(obj, session) for obj in pair] == [True, True]
        unlock_for_session(pair[0], session)
        assert [LockableModel.is_locked(obj) for obj in pair] == [False, True]
        assert check_for_session(pair[1], session)

    def test_is_two_locks_that_a_logout_releases(self, pair):
        session = SessionStore()
        for obj in pair:
            lock_for_session(obj, session)
        release_all(session)
        assert [locks_in(alias) for alias in ALIASES] == [[], []]

    def test_is_locked_twice_by_one_block(self, pair):
        with locked(*pair) as tokens:
            assert [locks_in(alias) for alias in ALIASES] == [[token] for token in tokens]
        assert [locks_in(alias) for alias in ALIASES] == [[], []]

    def test_is_locked_for_a_task_where_it_says(self, pair):
        seen = []
        locks(Article, using=THERE)(lambda pk: seen.extend(map(locks_in, ALIASES)))(1)
        assert list(map(len, seen)) == [0, 1]


def save(obj):
    obj.save(using=THERE)


def update(obj):
    Article.objects.using(THERE).filter(pk=obj.pk).update(title=obj.title)


def bulk_update(obj):
    Article.objects.using(THERE).bulk_update([obj], ["title"])


def delete(obj):
    obj.delete(using=THERE)


def delete_rows(obj):
    Article.objects.using(THERE).filter(pk=obj.pk).delete()


WRITES = (save, update, bulk_update, delete, delete_rows)


@pytest.mark.usefixtures("enforced")
class TestAWriteElsewhere:
    """The lock that counts is that of the row which is written."""

    @pytest.mark.parametrize("write", WRITES)
    def test_is_refused_with_the_lock_of_where_the_object_came_from(self, write, pair):
        here, there = pair
        with pytest.raises((LockRequired, StaleToken)), locked(here):
            write(here)
        there.refresh_from_db()
        assert there.title == THERE

    @pytest.mark.parametrize("write", WRITES)
    def test_is_refused_when_somebody_has_the_lock_there(self, write, pair, lock):
        here, there = pair
        lock(there)
        with pytest.raises(ObjectLocked), locked(here):
            write(here)

    @pytest.mark.parametrize("write", WRITES)
    def test_is_done_with_the_lock_there(self, write, pair, lock):
        here, there = pair
        with holding(lock(there)):
            write(here)
        assert Article.objects.using(HERE).get().title == HERE
        assert [a.title for a in Article.objects.using(THERE).all()] in ([HERE], [])

    def test_is_a_copy_only_if_it_says_so(self):
        """It could be an object of a replica that was deleted on the primary meanwhile."""
        Article.objects.create(pk=1, title="a")
        article = Article.objects.get()
        with pytest.raises(LockRequired):
            article.save(using=THERE)
        article.save(using=THERE, force_insert=True)
        assert Article.objects.using(THERE).get() == article

    def test_changes_relations_there(self, lock):
        story = Story.objects.using(THERE).create(slug="a")
        tag = Tag.objects.using(THERE).create(name="a")
        with pytest.raises(LockRequired):
            story.tags.add(tag)
        with locked(story, tag):
            story.tags.add(tag)
        assert story.tags.get() == tag


@pytest.mark.django_db(databases="__all__", transaction=True)
@pytest.mark.usefixtures("enforced")
@pytest.mark.parametrize("alias", ALIASES)
def test_a_write_and_its_judgement_are_one_transaction_in_the_database_written_to(alias, pair):
    here, there = pair
    seen = []

    def look(**kwargs):
        seen.extend(each for each in ALIASES if connections[each].in_atomic_block)

    post_save.connect(look, Article)
    try:
        with locked(here, there):
            here.save(using=alias)
    finally:
        post_save.disconnect(look, Article)
    assert seen == [alias]


def test_a_related_manager_locks_beside_the_object_it_belongs_to():
    story = Story.objects.using(THERE).create(pk=1, slug="a")
    Story.objects.using(HERE).create(pk=1, slug="a")
    for alias in ALIASES:
        Correction.objects.using(alias).create(pk=1, story_id=1, text=alias)
    found, token = LockableModelManager.get_and_lock(story.correction_set, pk=1)
    assert (found.text, locks_in(HERE), locks_in(THERE)) == (THERE, [], [token["token"]])


class TestALockRow:
    """What a router says of LockToken does not count: a lock is where its object is."""

    def test_is_renewed_where_it_is(self, article, lock):
        with freeze_time(NOON) as clock:
            lock(article)
            found = LockToken.objects.get_for_object(article)
            clock.tick(timedelta(minutes=30))
            found.renew()
            assert LockToken.objects.using(THERE).get().locked_at == NOON + timedelta(minutes=30)

    def test_is_deleted_where_it_is(self, article, lock):
        lock(article)
        found = LockToken.objects.get_for_object(article)
        # Another lock with the same id, where the router sends locks.
        user = get_user_model().objects.create_user("alice")
        other, _ = LockToken.objects.get_or_create_for_object(user)
        LockToken.objects.using(HERE).filter(pk=other.pk).update(id=found.pk)
        found.delete()
        assert (len(locks_in(HERE)), locks_in(THERE)) == (1, [])

    def test_is_moved_where_it_is(self, article, lock):
        lock(article)
        found = LockToken.objects.get_for_object(article)
        found.locked_at = NOON
        found.save()
        assert LockToken.objects.using(THERE).get().locked_at == NOON

    @pytest.mark.parametrize("how", ["create", "save"])
    def test_is_made_where_its_object_is(self, article, how):
        alice = get_user_model().objects.create_user("alice")
        if how == "create":
            lock = LockToken.objects.create(locked_object=article, locked_by=alice)
        else:
            lock = LockToken(locked_object=article, locked_by=alice)
            lock.save()
        assert (locks_in(HERE), locks_in(THERE)) == ([], [lock.token_str])
        assert LockToken.objects.get_for_object(article).locked_object == article


class TestTheHolder:
    """Users are in one database, objects in another; a user there with the key is another."""

    @pytest.fixture
    def held(self, article, enforced):
        alice = get_user_model().objects.create_user("alice", pk=7)
        get_user_model().objects.using(THERE).create(pk=7, username="mallory")
        with freeze_time(NOON):
            LockableModel.lock(article, by=alice)
            yield article

    def test_is_named_to_who_asks_for_the_lock(self, held):
        with pytest.raises(AlreadyLockedError) as caught:
            LockableModel.lock(held, by=get_user_model().objects.create_user("bob"))
        assert caught.value.lock.by == "alice"

    def test_is_named_to_who_writes(self, held, settings):
        settings.LOCK_TOKENS = {**settings.LOCK_TOKENS, "SHOW_HOLDER": True}
        with pytest.raises(ObjectLocked) as caught:
            held.save()
        assert caught.value.lock.by == "alice"

    def test_is_the_locks_user(self, held):
        assert LockToken.objects.get_for_object(held).locked_by.username == "alice"

    def test_is_listed(self, held):
        assert listed(THERE) == [f"app.Article {held.pk}\tlive\talice"]


def listed(alias):
    output = StringIO()
    call_command("list_locks", database=alias, stdout=output)
    lines = [line.split("\t") for line in output.getvalue().splitlines()]
    return ["\t".join([line[0], line[1], line[4]]) for line in lines]


class TestCommands:
    @pytest.fixture
    def expired(self, pair):
        with freeze_time(NOON):
            for obj in pair:
                LockableModel.lock(obj)
        with freeze_time(NOON + timedelta(days=1)):
            yield pair

    @pytest.mark.parametrize("alias", ALIASES)
    def test_remove_what_is_expired_in_one_database(self, alias, expired):
        call_command("remove_expired_locks", database=alias, stdout=StringIO())
        assert {each: len(locks_in(each)) for each in ALIASES} == {
            each: int(each != alias) for each in ALIASES
        }

    @pytest.mark.parametrize("alias", ALIASES)
    def test_list_what_is_locked_in_one_database(self, alias, expired):
        LockToken.objects.break_lock(expired[0])
        assert len(listed(alias)) == int(alias == THERE)

    @pytest.mark.parametrize("alias", ALIASES)
    def test_break_the_lock_of_an_object_in_one_database(self, alias, expired):
        options = {"reason": "a", "database": alias, "stdout": StringIO()}
        call_command("break_lock", "app.Article", "1", **options)
        assert {each: len(locks_in(each)) for each in ALIASES} == {
            each: int(each != alias) for each in ALIASES
        }
        with pytest.raises(CommandError, match="is not locked"):
            call_command("break_lock", "app.Article", "1", **options)

    def test_break_the_lock_where_the_router_keeps_the_object(self, article, lock):
        lock(article)
        call_command("break_lock", "app.Article", article.pk, reason="a", stdout=StringIO())
        assert locks_in(THERE) == []

    @pytest.mark.parametrize("alias", ALIASES)
    def test_migrate_either_database_completely(self, alias):
        call_command("migrate", database=alias, check_unapplied=True, stdout=StringIO())
        call_command("check", databases=[alias], stderr=StringIO())


class KeepsLocksHere:
    """Has the locks in one database only, or their content types."""

    def __init__(self, *kept):
        self.kept = kept

    def allow_migrate(self, db, app_label, **hints):
        return db == HERE or app_label not in self.kept


class TestADatabaseWithoutLocks:
    @pytest.mark.parametrize("kept", ["lock_tokens", "contenttypes"])
    def test_is_reported_for_what_is_enforced(self, kept, enforced, settings):
        settings.DATABASE_ROUTERS = [KeepsLocksHere(kept)]
        assert (
            "lock_tokens.W006",
            "app.Article is enforced, but the database 'other' has no table of locks: nothing "
            "that is there can be written.",
            "Let your database routers migrate lock_tokens and contenttypes there too.",
        ) in warnings_of_checks()

    def test_is_reported_for_what_is_lockable(self, settings):
        settings.DATABASE_ROUTERS = [KeepsLocksHere("lock_tokens")]
        assert (
            "lock_tokens.W006",
            "app.Page is lockable, but the database 'other' has no table of locks: nothing that "
            "is there can be locked.",
            "Let your database routers migrate lock_tokens and contenttypes there too.",
        ) in warnings_of_checks()

    @pytest.fixture
    def without(self, pair):
        table = LockToken._meta.db_table
        with connections[THERE].cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
            yield pair[1]
            cursor.execute(f"ALTER TABLE {table}_away RENAME TO {table}")

    @pytest.mark.django_db(databases="__all__", transaction=True)
    @pytest.mark.usefixtures("enforced")
    def test_refuses_to_lock_and_to_write_what_is_there(self, without):
        for attempt in (lambda: LockableModel.lock(without), without.save, without.delete):
            with pytest.raises(DatabaseError):
                attempt()
        assert Article.objects.using(THERE).get().title == THERE


def test_a_request_presents_the_token_of_the_database_it_writes_to(pair, settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"]}
    session = SessionStore()
    lock_for_session(pair[0], session)
    request = RequestFactory().post("/")
    request.session = session
    assert get_session_key(pair[0]) == "app_article_1"
    assert get_session_key(pair[1]) == "other:app_article_1"
    with in_view(RequestTokens(request)):
        pair[0].save()
        with pytest.raises(LockRequired):
            pair[1].save()
