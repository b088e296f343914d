"""The system checks of what cannot be covered."""

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, models
from django.db.models import deletion
from django.db.models.options import Options
from django.test.utils import isolate_apps

from lock_tokens.enforcement.checks import check_roads
from tests.app.models import Article, Place, Restaurant
from tests.enforcement.roads import ENFORCED


@pytest.fixture(autouse=True)
def enforced(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ENFORCED}


def found():
    return [(message.id, message.msg, message.hint) for message in check_roads()]


@pytest.mark.django_db
def test_everything_is_covered_here():
    assert found() == []
    assert [message.id for message in run_checks() if message.id.startswith("lock_tokens.")] == []


def test_a_child_with_a_save_base_of_its_own_may_go_round_the_guard(monkeypatch):
    monkeypatch.setattr(Restaurant, "save_base", models.Model.save_base, raising=False)
    assert found() == [
        (
            "lock_tokens.W004",
            "app.Restaurant has a save_base() of its own, which is guarded only if it calls "
            "super().save_base().",
            "Override save() instead, or make sure that it does.",
        )
    ]


def test_the_roots_own_is_wrapped(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Custom"]}
    assert found() == []


class Rows:
    """No queryset at all."""

    def __init__(self, model):
        self.model = model


class OtherManager(models.Manager):
    def get_queryset(self):
        return Rows(self.model)


class TenantManager(models.Manager):
    def get_queryset(self):
        raise RuntimeError("no tenant")


@pytest.fixture
def add_manager():
    """Give a model a manager until the test ends."""
    added = []

    def add(model, name, manager):
        model.add_to_class(name, manager)
        added.append((model, name))

    yield add
    for model, name in added:
        delattr(model, name)
        model._meta.local_managers = [m for m in model._meta.local_managers if m.name != name]
        model._meta._expire_cache()


def test_a_manager_without_querysets_is_not_guarded(settings, add_manager):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"]}
    add_manager(Article, "others", OtherManager())
    assert found() == [
        (
            "lock_tokens.W005",
            f"The querysets of app.{model}.others are not guarded.",
            "Let its get_queryset() return an instance of a subclass of QuerySet.",
        )
        for model in ("Article", "ArticleProxy")
    ]


def test_a_manager_that_cannot_be_asked_now_is_not_reported(settings, add_manager):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"]}
    add_manager(Article, "tenants", TenantManager())
    assert found() == []


def test_a_model_whose_managers_are_not_guarded_is_reported():
    plain = Place._meta.__class__
    Place._meta.__class__ = Options
    Place._meta._expire_cache()
    try:
        assert {id_ for id_, *_ in found()} == {"lock_tokens.W005"}
    finally:
        Place._meta.__class__ = plain
        Place._meta._expire_cache()


class LocksElsewhere:
    def allow_migrate(self, db, app_label, **hints):
        return app_label != "lock_tokens"


def test_objects_in_a_database_without_locks_are_reported(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Place"]}
    settings.DATABASE_ROUTERS = [LocksElsewhere()]
    expected = (
        f"is enforced, but the database {DEFAULT_DB_ALIAS!r} has no table of locks: nothing that "
        "is there can be written."
    )
    assert f"app.Place {expected}" in [message for _, message, _ in found()]
    assert {(id_, hint) for id_, _, hint in found()} == {
        (
            "lock_tokens.W006",
            "Let your database routers migrate lock_tokens and contenttypes there too.",
        )
    }


if hasattr(deletion, "DB_CASCADE"):

    @isolate_apps("tests.app")
    def test_what_the_database_deletes_by_itself_is_reported():
        from lock_tokens.enforcement.checks import _check_deletions

        class Owner(models.Model):
            class Meta:
                app_label = "app"

        class Owned(models.Model):
            owner = models.ForeignKey(Owner, deletion.DB_CASCADE)
            other = models.ForeignKey(Owner, models.CASCADE, related_name="+")

            class Meta:
                app_label = "app"

        (message,) = _check_deletions(Owned)
        assert (message.id, message.msg) == (
            "lock_tokens.W007",
            "app.Owned.owner leaves it to the database what is done when the other object is "
            "deleted (DB_CASCADE), which is not guarded.",
        )
        assert message.hint == "Use the action of the same name without DB_."


def test_wrong_settings_are_left_to_their_own_checks(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Nothing"]}
    assert found() == []


@pytest.mark.django_db
def test_the_check_is_registered(settings, monkeypatch, capsys):
    monkeypatch.setattr(Restaurant, "save_base", models.Model.save_base, raising=False)
    call_command("check")
    assert "(lock_tokens.W004)" in capsys.readouterr().err
