"""With a replica that lags, everything about locks is decided, and edited, on the primary."""

import sys
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import ObjectDoesNotExist
from django.db import connections, router
from django.http import Http404, HttpResponse
from django.template import RequestContext, Template
from django.test import Client, RequestFactory
from django.urls import include, path
from freezegun import freeze_time
from rest_framework.routers import DefaultRouter

from lock_tokens.decorators import holds_lock_on_object
from lock_tokens.enforcement import holding, locked, locks
from lock_tokens.exceptions import (
    AlreadyLockedError,
    LockRequired,
    LockTokensError,
    ObjectLocked,
)
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.sessions import (
    check_for_session,
    get_session_key,
    lock_for_session,
    unlock_for_session,
)
from tests.app.models import Article, Chapter, Story, Tag
from tests.app.views import ArticleUpdate
from tests.contrib.drf_project import ArticleViewSet
from tests.test_docs import blocks

pytestmark = pytest.mark.django_db(databases="__all__")

PRIMARY, REPLICA = "default", "replica"
NOON = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
# The keys of three objects; the replica has old versions of them.
TAKEN, FREE, GONE = 1, 2, 3


class FromTheReplica(ArticleUpdate):
    """Names the replica, as a related manager does whose object was read there."""

    def get_queryset(self):
        return Article.objects.using(REPLICA)


class TitleUpdate(ArticleUpdate):
    fields = ["title"]


class ViewSetFromTheReplica(ArticleViewSet):
    def get_queryset(self):
        return Article.objects.using(REPLICA).order_by("pk")


@holds_lock_on_object(Article, lambda request, pk: pk)
def show(request, pk):
    return HttpResponse(str(LockToken.objects.using(PRIMARY).live().count()))


api = DefaultRouter()
api.register("articles", ArticleViewSet)
api.register("old-articles", ViewSetFromTheReplica, basename="old")
urlpatterns = [
    path("", include("tests.urls")),
    path("from-replica/<int:pk>/", FromTheReplica.as_view()),
    path("title/<int:pk>/", TitleUpdate.as_view()),
    path("show/<int:pk>/", show),
    path("drf/", include(api.urls)),
]


def router_of_the_page():
    [block] = [b for b in blocks("growing.rst", "python") if "db_for_read" in b]
    names = {}
    exec(block, names)  # noqa: S102
    return names["PrimaryAndReplica"]()


@dataclass
class World:
    # Of the lock on the object TAKEN.
    token: str
    client: Client

    def read(self, pk, model=Article):
        """Read as the project does by default."""
        obj = model.objects.get(pk=pk)
        assert obj._state.db == REPLICA
        return obj

    def primary(self, pk, model=Article):
        return model.objects.using(PRIMARY).get(pk=pk)

    def with_lock(self, obj, block):
        with block:
            return obj.title


@pytest.fixture
def world(settings, client):
    """TAKEN is locked, FREE is free again, GONE is deleted; the replica knows nothing of it."""
    with freeze_time(NOON):
        for model in (Article, Chapter):
            for alias, title in ((PRIMARY, "new"), (REPLICA, "old")):
                rows = (model(pk=pk, title=title) for pk in (TAKEN, FREE, GONE))
                model.objects.using(alias).bulk_create(rows)
            model.objects.using(PRIMARY).filter(pk=GONE).delete()
            taken = LockableModel.lock(model.objects.using(PRIMARY).get(pk=TAKEN))
            LockableModel.lock(model.objects.using(REPLICA).get(pk=FREE))
            if model is Article:
                token = taken["token"]
        Article.objects.using(PRIMARY).update(body="new")
        Article.objects.using(REPLICA).update(body="old")
        settings.DATABASE_ROUTERS = [router_of_the_page()]
        settings.ROOT_URLCONF = __name__
        settings.LOCK_TOKENS = {"API_MODELS": ["app.Article"]}
        yield World(token, client)


@pytest.fixture
def asked_of_the_replica():
    """The statements about locks that the replica got."""
    found = []

    def note(execute, sql, params, many, context):
        if LockToken._meta.db_table in sql or ContentType._meta.db_table in sql:
            found.append(sql)
        return execute(sql, params, many, context)

    with connections[REPLICA].execute_wrapper(note):
        yield found


def session_with(world, pk):
    session = SessionStore()
    session[get_session_key(world.primary(pk))] = world.token
    return session


def unlocked_for_session(world):
    unlock_for_session(world.read(TAKEN), session_with(world, TAKEN))
    return LockableModel.is_locked(world.primary(TAKEN))


def keys(found):
    return {lock.locked_object_id for lock in found}


def patched(world, road):
    """Return what the primary has after a PATCH of the title."""
    header = {"headers": {"X-Lock-Token": world.token}, "content_type": "application/json"}
    answer = world.client.patch(f"/drf/{road}/{TAKEN}/", {"title": "newer"}, **header)
    return answer.status_code, world.primary(TAKEN).title, world.primary(TAKEN).body


def posted(world):
    """Return what the primary has after a form with the title was sent."""
    sent = {"title": "newer", "lock_token": world.token}
    answer = world.client.post(f"/title/{TAKEN}/", sent)
    return answer.status_code, world.primary(TAKEN).title, world.primary(TAKEN).body


def broken(world):
    LockToken.objects.break_lock(world.read(TAKEN))
    return LockableModel.is_locked(world.primary(TAKEN))


def renewed(world):
    with freeze_time(NOON + timedelta(minutes=30)):
        lock = LockToken.objects.get_for_object(world.read(TAKEN))
        lock.renew()
    return LockToken.objects.using(PRIMARY).get(token_str=world.token).locked_at.minute


@locks(Article)
def locks_of_primary(pk):
    return keys(LockToken.objects.using(PRIMARY).filter(locked_object_content_type=article_type()))


def article_type():
    return ContentType.objects.db_manager(PRIMARY).get_for_model(Article)


def after_two_hours(world):
    with freeze_time(NOON + timedelta(hours=2)):
        return keys(LockToken.objects.expired())


def url(pk):
    return f"/lock_tokens/app/article/{pk}/"


# What is done, and what comes of it: a value, or an error.
SCENARIOS = {
    "lock what is taken": (lambda w: LockableModel.lock(w.read(TAKEN)), AlreadyLockedError),
    "lock what is free": (
        lambda w: len(LockableModel.lock(w.read(FREE))["token"]),
        32,
    ),
    "renew": (lambda w: LockableModel.lock(w.read(TAKEN), w.token)["token"] == w.token, True),
    "unlock": (
        lambda w: LockableModel.unlock(w.read(TAKEN), w.token),
        None,
    ),
    "is_locked, taken": (lambda w: LockableModel.is_locked(w.read(TAKEN)), True),
    "is_locked, free": (lambda w: LockableModel.is_locked(w.read(FREE)), False),
    "check_lock": (lambda w: LockableModel.check_lock(w.read(TAKEN), w.token), True),
    "get_and_lock": (lambda w: Chapter.objects.get_and_lock(pk=FREE)[0].title, "new"),
    "get_and_lock by what is new": (
        lambda w: Chapter.get_and_lock(title="new", pk=FREE)[0]._state.db,
        PRIMARY,
    ),
    "get_and_lock, gone": (lambda w: Chapter.get_and_lock(pk=GONE), Chapter.DoesNotExist),
    "get_and_lock, taken": (lambda w: Chapter.get_and_lock(pk=TAKEN), AlreadyLockedError),
    "get_for_object": (
        lambda w: LockToken.objects.get_for_object(w.read(TAKEN)).token_str == w.token,
        True,
    ),
    "get_for_object, free": (
        lambda w: LockToken.objects.get_for_object(w.read(FREE)),
        LockToken.DoesNotExist,
    ),
    "get_for_contenttype_and_id": (
        lambda w: LockToken.objects.get_for_contenttype_and_id(article_type(), FREE),
        LockToken.DoesNotExist,
    ),
    "get_or_create_for_object": (
        lambda w: LockToken.objects.get_or_create_for_object(w.read(TAKEN))[1],
        False,
    ),
    "for_objects": (
        lambda w: {o.pk for o in LockToken.objects.for_objects([w.read(TAKEN), w.read(FREE)])},
        {TAKEN},
    ),
    "live": (lambda w: keys(LockToken.objects.live()), {str(TAKEN)}),
    "expired": (after_two_hours, {str(TAKEN)}),
    "any query of locks": (
        lambda w: LockToken.objects.filter(locked_object_id=FREE).exists(),
        False,
    ),
    "locked_object": (
        lambda w: LockToken.objects.get(token_str=w.token).locked_object.title,
        "new",
    ),
    "LockToken.renew": (renewed, 30),
    "break_lock": (broken, False),
    "lock_for_session": (
        lambda w: lock_for_session(w.read(TAKEN), session_with(w, TAKEN))["token"] == w.token,
        True,
    ),
    "check_for_session": (
        lambda w: check_for_session(w.read(TAKEN), session_with(w, TAKEN)),
        True,
    ),
    "unlock_for_session": (unlocked_for_session, False),
    "locked, taken": (
        lambda w: w.with_lock(obj := w.read(TAKEN), locked(obj)),
        AlreadyLockedError,
    ),
    "locked, with refresh": (
        lambda w: w.with_lock(obj := w.read(FREE), locked(obj, refresh=True)),
        "new",
    ),
    "locked, with refresh, gone": (
        lambda w: w.with_lock(obj := w.read(GONE), locked(obj, refresh=True)),
        Article.DoesNotExist,
    ),
    "locks": (lambda w: locks_of_primary(FREE), {str(TAKEN), str(FREE)}),
    "locks, gone": (lambda w: locks_of_primary(GONE), Article.DoesNotExist),
    "REST status": (lambda w: w.client.get(url(TAKEN)).json()["locked"], True),
    "REST lock, taken": (lambda w: w.client.post(url(TAKEN)).status_code, 403),
    "REST lock, free": (lambda w: w.client.post(url(FREE)).status_code, 201),
    "REST lock, gone": (lambda w: w.client.post(url(GONE)).status_code, 404),
    "REST renew": (lambda w: w.client.patch(f"{url(TAKEN)}{w.token}/").status_code, 200),
    "REST release": (lambda w: w.client.delete(f"{url(TAKEN)}{w.token}/").status_code, 204),
    "decorator": (lambda w: w.client.get(f"/show/{FREE}/").content, b"3"),
    "decorator, gone": (lambda w: w.client.get(f"/show/{GONE}/").status_code, 404),
    "decorator, taken": (lambda w: w.client.get(f"/show/{TAKEN}/").status_code, 423),
    "mixin": (
        lambda w: b'value="new"' in w.client.get(f"/articles/{FREE}/edit/").content,
        True,
    ),
    "mixin, gone": (lambda w: w.client.get(f"/articles/{GONE}/edit/").status_code, 404),
    "mixin, taken": (lambda w: w.client.get(f"/articles/{TAKEN}/edit/").status_code, 423),
    "mixin, write": (posted, (302, "newer", "new")),
    "mixin with a queryset of the replica": (
        lambda w: b'value="new"' in w.client.get(f"/from-replica/{FREE}/").content,
        True,
    ),
    "REST framework, lock, gone": (
        lambda w: w.client.post(f"/drf/articles/{GONE}/lock/").status_code,
        404,
    ),
    "REST framework, lock, taken": (
        lambda w: w.client.post(f"/drf/articles/{TAKEN}/lock/").status_code,
        423,
    ),
    "REST framework, read": (
        lambda w: w.client.get(f"/drf/articles/{TAKEN}/").json()["title"],
        "new",
    ),
    "REST framework, write": (lambda w: patched(w, "articles"), (200, "newer", "new")),
    "REST framework, write with a queryset of the replica": (
        lambda w: patched(w, "old-articles"),
        (200, "newer", "new"),
    ),
}


def outcome(scenario, world):
    try:
        return scenario(world)
    except (LockTokensError, ObjectDoesNotExist, Http404) as error:
        return type(error)


@pytest.mark.filterwarnings("ignore::lock_tokens.exceptions.NoLockWarning")
class TestWhatIsDecided:
    @pytest.mark.parametrize("name", SCENARIOS)
    def test_is_decided_on_the_primary(self, name, world, asked_of_the_replica):
        scenario, expected = SCENARIOS[name]
        assert outcome(scenario, world) == expected
        assert asked_of_the_replica == []

    @pytest.mark.parametrize("name", SCENARIOS)
    def test_would_come_out_wrong_on_the_replica(self, name, world, monkeypatch):
        """The control: what the package routes as a write is routed as a read."""

        class Misrouted:
            def __getattr__(self, name):
                return getattr(router, name)

            def db_for_write(self, model, **hints):
                return router.db_for_read(model, **hints)

        for module_name, module in list(sys.modules.items()):
            if module_name.startswith("lock_tokens.") and getattr(module, "router", 0) is router:
                monkeypatch.setattr(module, "router", Misrouted())
        scenario, expected = SCENARIOS[name]
        assert outcome(scenario, world) != expected


@pytest.fixture
def enforced(settings, world):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"]}
    return world


def save(obj):
    obj.save()


def update(obj):
    type(obj).objects.filter(pk=obj.pk).update(title="newer")


def delete(obj):
    obj.delete()


@pytest.mark.parametrize("write", [save, update, delete])
class TestWhatIsWritten:
    def test_is_judged_by_the_locks_of_the_primary(self, write, enforced, asked_of_the_replica):
        taken, free = enforced.read(TAKEN), enforced.read(FREE)
        with pytest.raises(ObjectLocked):
            write(taken)
        with pytest.raises(LockRequired):
            write(free)
        assert enforced.primary(TAKEN).title == enforced.primary(FREE).title == "new"
        assert asked_of_the_replica == []

    def test_is_written_with_a_token_of_the_primary(self, write, enforced, asked_of_the_replica):
        obj = enforced.read(TAKEN)
        obj.title = "newer"
        with holding(enforced.token):
            write(obj)
        assert [a.title for a in Article.objects.using(PRIMARY).filter(pk=TAKEN)] in (["newer"], [])
        assert Article.objects.using(REPLICA).get(pk=TAKEN).title == "old"
        assert asked_of_the_replica == []

    def test_is_refused_with_the_token_that_the_replica_remembers(self, write, enforced):
        remembered = LockToken.objects.using(REPLICA).get(
            locked_object_id=FREE, locked_object_content_type__model="article"
        )
        obj = enforced.read(FREE)
        with pytest.raises(LockTokensError), holding(remembered.token_str):
            write(obj)
        assert enforced.primary(FREE).title == "new"


def test_a_session_knows_an_object_from_either_database_by_one_name(world):
    assert get_session_key(world.read(TAKEN)) == get_session_key(world.primary(TAKEN))


def test_a_form_presents_the_token_wherever_its_object_was_read(world):
    request = RequestFactory().get("/")
    request.session = session_with(world, TAKEN)
    template = Template("{% load lock_tokens_tags %}{% lock_token_field obj %}")
    for obj in (world.read(TAKEN), world.primary(TAKEN)):
        context = RequestContext(request, {"obj": obj})
        assert f'value="{world.token}"' in template.render(context)


def test_what_belongs_to_an_object_is_read_where_the_object_was_read(world):
    for alias, name in ((PRIMARY, "new"), (REPLICA, "old")):
        Story.objects.using(alias).create(pk=1, slug="a")
        Tag.objects.using(alias).create(pk=1, name=name)
        Story.tags.through.objects.using(alias).create(story_id=1, tag_id=1)
    story = Story.objects.get(pk=1)
    assert [tag.name for tag in story.tags.all()] == ["old"]
    with locked(story, refresh=True):
        assert [tag.name for tag in story.tags.all()] == ["new"]


class ReadsFromReplica:
    """Does not say what is migrated where, as most routers do not."""

    def db_for_read(self, model, **hints):
        return PRIMARY if model._meta.app_label == "sessions" else REPLICA

    def db_for_write(self, model, **hints):
        return PRIMARY


def test_a_logout_releases_on_the_primary_and_writes_nothing_to_the_replica(world, settings):
    settings.DATABASE_ROUTERS = [ReadsFromReplica()]
    copied = LockToken.objects.using(PRIMARY).get(token_str=world.token)
    LockToken.objects.using(REPLICA).all().delete()
    LockToken.objects.using(REPLICA).bulk_create([copied])
    request = RequestFactory().get("/")
    request.session = session_with(world, TAKEN)
    written = []

    def refuse(execute, sql, params, many, context):
        if not sql.lstrip("( ").startswith(("SELECT", "SAVEPOINT", "RELEASE")):
            written.append(sql)
        return execute(sql, params, many, context)

    with connections[REPLICA].execute_wrapper(refuse):
        user_logged_out.send(get_user_model(), request=request, user=None)
    assert not LockableModel.is_locked(world.primary(TAKEN))
    assert written == []
