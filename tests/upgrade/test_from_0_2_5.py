"""A database of 0.2.5 is migrated in place, and nobody loses a lock."""

import base64
import importlib
import json
import os
import shutil
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from io import StringIO
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command
from django.db import connection, connections
from django.db.migrations.executor import MigrationExecutor
from freezegun import freeze_time

from lock_tokens.exceptions import AlreadyLockedError
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.sessions import check_for_session, lock_for_session
from tests.app.models import Article, Bistro, Museum, Place, Restaurant

# Made by 0.2.5 on Django 2.2: four locks, one of them 30 days older, one held by a session.
DATABASE = Path(__file__).with_name("lock_tokens_0_2_5.sqlite3")
NOW = datetime(2026, 11, 22, 15, 0, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
LOCKED_AT = {
    1: datetime(2026, 11, 22, 14, 43, 54, 80404, timezone.utc),
    2: datetime(2026, 10, 23, 14, 43, 54, 87540, timezone.utc),
    3: datetime(2026, 11, 22, 14, 43, 54, 85878, timezone.utc),
    4: datetime(2026, 11, 22, 14, 43, 54, 90992, timezone.utc),
}
TOKENS = {
    1: "5aeaadac2a2a40ac8a188544bd247eaf",
    2: "f588ccc233c04518ac852b738ee7ef08",
    3: "3eb5079b3ee444a5b74e09607e4b5d21",
    4: "cfa337dfecee424fa00e3dd50c8afc1d",
}
SESSION = "q7pyautrz3uvpnmsxsrffjxyi5tfg2t6"


class EverythingOld:
    """A router under which the old database is the project's database."""

    def db_for_read(self, model, **hints):
        return "old"

    db_for_write = db_for_read


@pytest.fixture
def old(django_db_blocker, settings, tmp_path):
    """A copy of the old database, in use at 15:00 on the day its locks were taken."""
    path = shutil.copy(DATABASE, tmp_path)
    old = {"ENGINE": "django.db.backends.sqlite3", "NAME": path}
    databases = connections.configure_settings({"default": {}, "old": old})
    connections.settings["old"] = databases["old"]
    settings.DATABASE_ROUTERS = [f"{__name__}.EverythingOld"]
    ContentType.objects.clear_cache()
    with django_db_blocker.unblock(), freeze_time(NOW) as clock:
        yield clock
        connections["old"].close()
    ContentType.objects.clear_cache()
    del connections["old"]
    del connections.settings["old"]


@pytest.fixture
def migrated(old):
    call_command("migrate", database="old", verbosity=0)
    return old


@pytest.fixture
def users(migrated):
    return {user.pk: user for user in get_user_model().objects.all()}


@pytest.fixture
def group(migrated):
    return Group.objects.get()


class TestMigration:
    def test_the_old_database_has_the_first_two_migrations_and_gets_the_rest(self, old):
        executor = MigrationExecutor(connections["old"])
        plan = executor.migration_plan([("lock_tokens", "0004_name_the_index")])
        names = [migration.name for migration, _backwards in plan]
        assert names == ["0003_text_keys_and_expiry", "0004_name_the_index"]

    def test_four_locks_survive_with_ids_tokens_and_times(self, migrated):
        rows = LockToken.objects.order_by("pk")
        assert {row.pk: row.token_str for row in rows} == TOKENS
        assert {row.pk: row.locked_at for row in rows} == LOCKED_AT
        assert {row.pk: row.expires_at - row.locked_at for row in rows} == dict.fromkeys(
            TOKENS, HOUR
        )
        assert {row.locked_by for row in rows} == {None}

    def test_three_of_them_are_live_and_one_has_expired(self, migrated, users, group):
        assert {row.pk for row in LockToken.objects.live()} == {1, 3, 4}
        assert {row.pk for row in LockToken.objects.expired()} == {2}
        locked = {obj for obj in (*users.values(), group) if LockableModel.is_locked(obj)}
        assert locked == {users[1], users[3], group}

    def test_they_are_on_the_same_objects(self, migrated, users, group):
        objects = {row.pk: row.locked_object for row in LockToken.objects.all()}
        assert objects == {1: users[1], 2: users[2], 3: group, 4: users[3]}

    def test_the_timeout_is_that_of_the_settings(self, old, settings):
        settings.LOCK_TOKENS = {"TIMEOUT": 60}
        call_command("migrate", database="old", verbosity=0)
        assert {row.timeout for row in LockToken.objects.all()} == {60}
        assert not LockToken.objects.live().exists()

    def test_nothing_is_left_to_migrate(self, migrated):
        call_command("migrate", "lock_tokens", database="old", check_unapplied=True, verbosity=0)

    def test_it_can_be_migrated_back(self, migrated):
        call_command("migrate", "lock_tokens", "0002", database="old", verbosity=0)
        with connections["old"].cursor() as cursor:
            cursor.execute("SELECT id, token_str, locked_object_id FROM lock_tokens_locktoken")
            rows = cursor.fetchall()
        assert rows == [(pk, TOKENS[pk], {1: 1, 2: 2, 3: 1, 4: 3}[pk]) for pk in TOKENS]


class TestAfterwards:
    def test_the_old_tokens_are_valid(self, users, group):
        assert LockableModel.check_lock(users[1], TOKENS[1]) is True
        assert LockableModel.check_lock(group, TOKENS[3]) is True
        assert LockableModel.check_lock(group, TOKENS[1]) is False

    def test_the_old_locks_keep_others_out_until_they_expire(self, users, migrated):
        with pytest.raises(AlreadyLockedError):
            LockableModel.lock(users[1])
        migrated.move_to(LOCKED_AT[1] + HOUR - timedelta(microseconds=1))
        with pytest.raises(AlreadyLockedError):
            LockableModel.lock(users[1])
        migrated.move_to(LOCKED_AT[1] + HOUR)
        LockableModel.lock(users[1])
        assert LockableModel.check_lock(users[1], TOKENS[1]) is False

    def test_their_holders_renew_and_release_them(self, users, group):
        result = LockableModel.lock(users[1], TOKENS[1])
        assert result == {"token": TOKENS[1], "expires": "2026-11-22 16:00:00 UTC"}
        LockableModel.unlock(group, TOKENS[3])
        assert set(LockToken.objects.values_list("pk", flat=True)) == {1, 2, 4}

    def test_the_expired_one_is_still_its_holders_or_the_next_takers(self, users):
        assert LockableModel.lock(users[2], TOKENS[2])["token"] == TOKENS[2]

    def test_ids_go_on_growing(self, users, group):
        LockableModel.unlock(users[3], TOKENS[4])
        LockableModel.lock(users[4])
        LockableModel.lock(users[2])
        assert LockToken.objects.get_for_object(users[4]).pk == 5
        assert LockToken.objects.get_for_object(users[2]).pk > 5

    def test_the_stored_session_still_holds_the_third_users_lock(self, users):
        store(SESSION)
        session = SessionStore(SESSION)
        assert check_for_session(users[3], session) is True
        assert lock_for_session(users[3], session)["token"] == TOKENS[4]
        assert lock_for_session(users[3], session, force_new=True)["token"] == TOKENS[4]


def store(key):
    """Store the session ``key`` as this Django encodes it.

    Django 2.2 wrote base64(hash:json), which no Django since 4.0 reads; a project that comes
    from there has stored its sessions anew on the way.
    """
    with connections["old"].cursor() as cursor:
        cursor.execute("SELECT session_data FROM django_session WHERE session_key = %s", [key])
        (data,) = cursor.fetchone()
    content = json.loads(base64.b64decode(data).partition(b":")[2])
    assert content == {"auth_user_3": TOKENS[4]}
    session = SessionStore(key)
    session.update(content)
    session.save(must_create=False)


@pytest.mark.django_db(transaction=True)
class TestMultiTableChildren:
    """0.2.5 locked a child apart from its parent; now they are one object. On each database.

    Their keys are small: it had no place for great ones, and MariaDB counts on from those that
    other tests used.
    """

    @pytest.fixture
    def before(self):
        """Go back to the tables of 0.2.5, and return their LockToken and ContentType."""
        call_command("migrate", "lock_tokens", "0002", verbosity=0)
        apps = (
            MigrationExecutor(connection)
            .loader.project_state(
                [
                    ("lock_tokens", "0002_locktoken_created"),
                    ("contenttypes", "0002_remove_content_type_name"),
                ]
            )
            .apps
        )
        yield apps
        call_command("migrate", "lock_tokens", verbosity=0)

    @pytest.fixture
    def article(self):
        return Article.objects.create(pk=7, title="a")

    def lock(self, apps, obj, label, **values):
        types = apps.get_model("contenttypes", "ContentType").objects
        content_type, _ = types.get_or_create(app_label="app", model=label)
        locks = apps.get_model("lock_tokens", "LockToken").objects
        return locks.create(
            locked_object_content_type=content_type, locked_object_id=obj.pk, **values
        ).token_str

    def forward(self):
        call_command("migrate", "lock_tokens", verbosity=0)

    @pytest.mark.parametrize(
        ("model", "label"), [(Restaurant, "restaurant"), (Bistro, "bistro"), (Museum, "museum")]
    )
    def test_the_lock_of_a_child_becomes_that_of_the_object(self, before, model, label):
        obj, other = (model.objects.create(pk=pk, name="a") for pk in (7, 8))
        token = self.lock(before, obj, label)
        parents = self.lock(before, other, "place")

        self.forward()

        assert LockableModel.check_lock(obj, token) is True
        assert LockableModel.check_lock(Place.objects.get(pk=obj.pk), token) is True
        assert LockableModel.check_lock(other, parents) is True
        assert LockToken.objects.count() == 2

    def test_where_child_and_parent_were_locked_the_parents_lock_is_the_objects(self, before):
        obj = Restaurant.objects.create(pk=7, name="a")
        self.lock(before, obj, "restaurant")
        token = self.lock(before, obj, "place")

        self.forward()

        assert LockableModel.check_lock(obj, token) is True

    def test_where_child_and_grandchild_were_locked_one_lock_is_the_objects(self, before):
        obj = Bistro.objects.create(pk=7, name="a")
        tokens = [self.lock(before, obj, label) for label in ("restaurant", "bistro")]

        self.forward()

        assert [LockableModel.check_lock(obj, token) for token in tokens].count(True) == 1

    def test_locks_of_other_models_stay_where_they_are(self, before, article):
        types = before.get_model("contenttypes", "ContentType").objects
        token = self.lock(before, article, "article")
        gone = self.lock(before, article, "gone")
        assert types.filter(model="gone").exists()

        self.forward()

        assert LockableModel.check_lock(article, token) is True
        assert LockToken.objects.get(token_str=gone).locked_object is None

    def test_times_and_ids_survive_on_this_database(self, before, article):
        locked_at = datetime(2026, 11, 22, 14, 43, 54, 80404, timezone.utc)
        token = self.lock(before, article, "article", locked_at=locked_at)
        old = before.get_model("lock_tokens", "LockToken").objects.get()

        self.forward()

        row = LockToken.objects.get()
        assert (row.pk, row.token_str, row.created) == (old.pk, token, old.created)
        assert row.expires_at == row.get_expiration_datetime() == locked_at + HOUR

    def test_it_goes_back_with_locks_in_the_table(self, before, article):
        self.forward()
        token = LockableModel.lock(article)["token"]
        call_command("migrate", "lock_tokens", "0002", verbosity=0)
        row = before.get_model("lock_tokens", "LockToken").objects.get()
        assert (row.token_str, row.locked_object_id) == (token, article.pk)


@pytest.mark.parametrize("field", ["AutoField", "BigAutoField", "SmallAutoField", None])
def test_no_project_is_asked_for_a_migration_inside_the_package(field, tmp_path):
    lines = [
        "from tests.settings import *",
        "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}}",
    ]
    if field:
        lines.append(f"DEFAULT_AUTO_FIELD = 'django.db.models.{field}'")
    (tmp_path / "project_settings.py").write_text("\n".join(lines))
    root = Path(__file__).parents[2]
    command = ["makemigrations", "lock_tokens", "--check", "--dry-run"]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "django", *command],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)]),
            "DJANGO_SETTINGS_MODULE": "project_settings",
        },
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "No changes detected in app 'lock_tokens'\n",
        "",
    )


@pytest.mark.django_db
def test_the_models_and_the_migrations_agree():
    out = StringIO()
    call_command("makemigrations", "lock_tokens", check_changes=True, dry_run=True, stdout=out)
    assert out.getvalue() == "No changes detected in app 'lock_tokens'\n"


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("models", ["LockToken", "LockableModel", "get_random_token"]),
        ("managers", ["LockTokenManager", "LockableModelManager"]),
        (
            "sessions",
            ["check_for_session", "get_session_key", "lock_for_session", "unlock_for_session"],
        ),
        ("decorators", ["holds_lock_on_object", "locks_object"]),
        (
            "exceptions",
            [
                "AlreadyLockedError",
                "InvalidToken",
                "LockExpiredWarning",
                "NoLockWarning",
                "UnlockForbiddenError",
            ],
        ),
        ("settings", ["API_CSRF_EXEMPT", "DATEFORMAT", "TIMEOUT"]),
        ("urls", ["app_name", "urlpatterns"]),
        ("views", ["LockTokenDetailView", "LockTokenListView"]),
    ],
)
def test_the_public_names_of_0_2_5_are_still_there(module, names):
    imported = importlib.import_module(f"lock_tokens.{module}")
    assert [name for name in names if not hasattr(imported, name)] == []
