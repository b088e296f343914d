"""What ``manage.py check`` says of a LockableModelAdmin."""

import pytest
from django.contrib import admin
from django.contrib.admin.sites import all_sites

from lock_tokens.admin import LockableModelAdmin
from tests.app.models import Article


def found(**attributes):
    site = admin.AdminSite()
    all_sites.discard(site)
    kind = type("ArticleAdmin", (LockableModelAdmin,), attributes)
    return [(error.id, error.msg, error.hint) for error in kind(Article, site).check()]


@pytest.mark.parametrize("value", [None, 1, 900])
@pytest.mark.parametrize("name", ["lock_timeout", "lock_idle"])
def test_a_number_of_seconds_and_none_are_right(name, value):
    assert found(**{name: value}) == []


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "900", 2**31])
@pytest.mark.parametrize("name", ["lock_timeout", "lock_idle"])
def test_anything_else_is_an_error_that_says_so(name, value):
    message = (
        f"The value of {name!r} must be a whole number of seconds from 1 to 2147483647, or None; "
        f"it is {value!r}."
    )
    assert found(**{name: value}) == [("lock_tokens.E011", message, None)]


def test_a_token_field_that_is_a_field_of_the_model_is_an_error(settings):
    settings.LOCK_TOKENS = {"TOKEN_FIELD": "title"}
    assert found() == [
        (
            "lock_tokens.E012",
            "The form field of the lock's token is 'title', and so is a field of app.Article.",
            "Give LOCK_TOKENS['TOKEN_FIELD'] another name.",
        )
    ]


def test_what_django_checks_is_checked_too():
    assert [id for id, *_ in found(list_display=["nothing"])] == ["admin.E108"]
