"""Two databases beside the default one: a replica that lags behind it, and one of its own."""

import copy
from pathlib import Path

import pytest
from django.apps import apps
from django.contrib.contenttypes.management import create_contenttypes
from django.contrib.contenttypes.models import ContentType
from django.db import connections


def settings_of(alias):
    """Return those of the default database, for another on the same server or in a file beside."""
    found = copy.deepcopy(connections.settings["default"])
    if connections["default"].vendor == "sqlite":
        file = Path(found["NAME"])
        found["TEST"]["NAME"] = str(file.with_name(f"{file.stem}_{alias}{file.suffix}"))
    else:
        found["NAME"] = f"{found['NAME']}_{alias}"
    return found


def number_content_types_differently(alias):
    ContentType.objects.using(alias).all().delete()
    for app in apps.get_app_configs():
        create_contenttypes(app, verbosity=0, using=alias)
    ContentType.objects.clear_cache()


@pytest.fixture(scope="package", autouse=True)
def databases(django_db_setup, django_db_blocker):
    names = {}
    with django_db_blocker.unblock():
        for alias in ("replica", "other"):
            connections.settings[alias] = settings_of(alias)
            names[alias] = connections.settings[alias]["NAME"]
            connections[alias].creation.create_test_db(verbosity=0, autoclobber=True)
        number_content_types_differently("other")
    yield
    with django_db_blocker.unblock():
        for alias, name in names.items():
            connections[alias].creation.destroy_test_db(name, verbosity=0)
            del connections[alias], connections.settings[alias]
    ContentType.objects.clear_cache()


@pytest.fixture(autouse=True)
def every_database_is_asked_for_its_content_types():
    ContentType.objects.clear_cache()
