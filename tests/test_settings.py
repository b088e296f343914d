"""LOCK_TOKENS is read at every use, and a wrong value says what is wrong with it."""

import importlib

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

import lock_tokens.settings
from lock_tokens.settings import SPECS, current
from tests.app.models import Article, ArticleProxy, Bistro, Page, Place

DEFAULTS = {
    "TIMEOUT": 3600,
    "DATEFORMAT": "%Y-%m-%d %H:%M:%S %Z",
    "API_CSRF_EXEMPT": False,
    "API_MODELS": None,
    "API_PERMISSION": "lock_tokens.permissions.default",
    "API_LOCKED_STATUS": 403,
    "ENFORCED_MODELS": {},
    "OUTSIDE_REQUEST": "refuse",
    "TOKEN_HEADER": "X-Lock-Token",
    "TOKEN_FIELD": "lock_token",
    "SHOW_HOLDER": "authenticated",
}
OTHERS = [
    ("TIMEOUT", 1),
    ("TIMEOUT", 2147483647),
    ("DATEFORMAT", "%c"),
    ("API_CSRF_EXEMPT", True),
    ("API_MODELS", "__all__"),
    ("API_MODELS", ["app.Article"]),
    ("API_PERMISSION", "lock_tokens.permissions.is_authenticated"),
    ("API_LOCKED_STATUS", 423),
    ("ENFORCED_MODELS", {"app.article": {"TIMEOUT": 5}}),
    ("OUTSIDE_REQUEST", "respect"),
    ("OUTSIDE_REQUEST", "allow"),
    ("TOKEN_HEADER", "Lock"),
    ("TOKEN_FIELD", "lock"),
    ("SHOW_HOLDER", True),
    ("SHOW_HOLDER", False),
]


def test_every_key_is_tried_here():
    assert set(DEFAULTS) == set(SPECS) == {key for key, _ in OTHERS}


@pytest.mark.parametrize(("key", "default"), DEFAULTS.items())
def test_without_the_key_or_the_setting_its_default_applies(settings, key, default):
    settings.LOCK_TOKENS = {}
    assert getattr(current, key) == default
    del settings.LOCK_TOKENS
    assert getattr(current, key) == default


@pytest.mark.parametrize(("key", "value"), OTHERS)
def test_every_key_is_read_at_use(key, value):
    before = getattr(current, key)
    with override_settings(LOCK_TOKENS={key: value}):
        assert getattr(current, key) == value != before
        assert getattr(lock_tokens.settings, key) == value
    assert getattr(current, key) == getattr(lock_tokens.settings, key) == before


def test_a_value_can_be_imported_by_name(settings):
    settings.LOCK_TOKENS = {"TIMEOUT": 7}
    from lock_tokens.settings import TIMEOUT

    assert TIMEOUT == 7


def test_the_module_and_the_object_have_no_other_names():
    with pytest.raises(AttributeError, match=r"^LOCK_TOKENS has no key 'TIMEUOT'\.$"):
        _ = lock_tokens.settings.TIMEUOT
    with pytest.raises(ImportError, match="cannot import name 'TIMEUOT'"):
        exec("from lock_tokens.settings import TIMEUOT")  # noqa: S102
    with pytest.raises(AttributeError, match=r"^LOCK_TOKENS has no key 'timeout'\.$"):
        _ = current.timeout


def test_nothing_is_read_when_the_module_is_imported(settings):
    settings.LOCK_TOKENS = "nonsense"
    importlib.reload(importlib.import_module("lock_tokens.signals"))
    spec = importlib.util.find_spec("lock_tokens.settings")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(ImproperlyConfigured) as caught:
        _ = module.TIMEOUT
    assert str(caught.value) == "LOCK_TOKENS must be a dict, not 'nonsense'."


SECONDS = "must be a whole number of seconds from 1 to 2147483647"
STATUS = "must be an HTTP status from 400 to 499 (403, 409 and 423 are useful)"
LABELS = 'must be None, "__all__" or a list of model labels such as "news.Article"'
ENFORCED = (
    'must be a list of model labels such as "news.Article", or a dict of labels and their options'
)


@pytest.mark.parametrize(
    ("key", "problem", "values"),
    [
        ("TIMEOUT", SECONDS, [0, -1, 2147483648, "60", 1.5, True, None, []]),
        ("DATEFORMAT", "must be a non-empty string", ["", " ", None, 3]),
        ("API_CSRF_EXEMPT", "must be True or False", [1, 0, None, "yes"]),
        ("API_MODELS", LABELS, ["app.Article", "all", ["Article"], [3], ["a.b.c"], ["app."], 3]),
        ("API_PERMISSION", "must be a non-empty string", ["", None, len]),
        ("API_LOCKED_STATUS", STATUS, [200, 399, 500, "423", None, True]),
        ("ENFORCED_MODELS", ENFORCED, ["app.Article", None, ["Article"], {"Article": {}}]),
        ("ENFORCED_MODELS", ENFORCED, [{"app.Article": None}, {"app.Article": []}, {3: {}}, 3]),
        (
            "OUTSIDE_REQUEST",
            "must be one of 'refuse', 'respect', 'allow'",
            ["deny", "", None, True, ["allow"]],
        ),
        (
            "TOKEN_HEADER",
            "must be the name of an HTTP header, without underscores",
            ["", "X_Lock", "X Lock", "X:Lock", "é", None, 3],
        ),
        ("TOKEN_FIELD", "must be a non-empty string", ["", " ", None, 3]),
        (
            "SHOW_HOLDER",
            "must be one of True, 'authenticated', False",
            [1, 0, None, "everybody", [], "True"],
        ),
    ],
)
def test_a_wrong_value_says_what_is_wrong(settings, key, problem, values):
    for value in values:
        settings.LOCK_TOKENS = {key: value}
        with pytest.raises(ImproperlyConfigured) as caught:
            getattr(current, key)
        assert str(caught.value) == f"LOCK_TOKENS[{key!r}] {problem}, not {value!r}."


@pytest.mark.parametrize("value", [None, [], "x", 3])
def test_a_setting_that_is_no_dict_says_so(settings, value):
    settings.LOCK_TOKENS = value
    with pytest.raises(ImproperlyConfigured) as caught:
        _ = current.TIMEOUT
    assert str(caught.value) == f"LOCK_TOKENS must be a dict, not {value!r}."


def test_a_list_of_enforced_models_is_a_dict_of_empty_options(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article", "app.Page"]}
    assert current.ENFORCED_MODELS == {"app.article": {}, "app.page": {}}


class TestTimeoutOfAModel:
    @pytest.mark.parametrize(
        ("model", "seconds"), [(Article, 5), (ArticleProxy, 5), (Bistro, 6), (Place, 7), (Page, 7)]
    )
    def test_it_is_its_own_or_that_of_what_it_inherits_from(self, settings, model, seconds):
        settings.LOCK_TOKENS = {
            "TIMEOUT": 7,
            "ENFORCED_MODELS": {
                "app.Article": {"TIMEOUT": 5},
                "app.restaurant": {"TIMEOUT": 6},
                "app.Page": {},
            },
        }
        assert current.timeout_for(model) == seconds

    @pytest.mark.parametrize("value", [0, "60", None])
    def test_a_wrong_one_says_what_is_wrong(self, settings, value):
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": {"app.Article": {"TIMEOUT": value}}}
        with pytest.raises(ImproperlyConfigured) as caught:
            current.timeout_for(Article)
        assert str(caught.value) == (
            f"LOCK_TOKENS['ENFORCED_MODELS']['app.article']['TIMEOUT'] {SECONDS}, not {value!r}."
        )
