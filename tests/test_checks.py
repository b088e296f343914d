"""System checks: every wrong key, type and value, told with the nearest right one."""

from types import SimpleNamespace

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import Client, override_settings
from django.urls import path

from lock_tokens import checks as lock_checks
from lock_tokens.checks import (
    check_databases,
    check_deployment,
    check_middleware,
    check_settings,
)
from lock_tokens.enforcement.middleware import LockTokenMiddleware

LOCKS = "lock_tokens.enforcement.middleware.LockTokenMiddleware"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
LONGEST = 2**31 - 1

urlpatterns = [path("nothing/", lambda request: None)]


class OwnLockTokenMiddleware(LockTokenMiddleware):
    pass


class OwnAuthenticationMiddleware(AuthenticationMiddleware):
    pass


not_callable = "not callable"


def found(**lock_tokens):
    with override_settings(LOCK_TOKENS=lock_tokens):
        return check_settings()


def assert_error(errors, id, message, hint):
    assert [(error.id, error.msg, error.hint) for error in errors] == [(id, message, hint)]
    assert errors[0].is_serious()


# Settings


@pytest.mark.parametrize("value", [None, [], "TIMEOUT", 5])
def test_the_setting_must_be_a_dict(value):
    with override_settings(LOCK_TOKENS=value):
        assert_error(
            check_settings(),
            "lock_tokens.E001",
            f"LOCK_TOKENS must be a dict, not {value!r}.",
            "Write LOCK_TOKENS = {…}.",
        )
        assert check_middleware() == []
        assert check_deployment() == []


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("TIMOUT", "TIMEOUT"),
        ("timeout", "TIMEOUT"),
        ("DATE_FORMAT", "DATEFORMAT"),
        ("CSRF_EXEMPT", "API_CSRF_EXEMPT"),
        ("API_MODEL", "API_MODELS"),
        ("API_PERMISSIONS", "API_PERMISSION"),
        ("API_LOCK_STATUS", "API_LOCKED_STATUS"),
        ("ENFORCE_MODELS", "ENFORCED_MODELS"),
        ("OUTSIDE_REQUESTS", "OUTSIDE_REQUEST"),
        ("HEADER", "TOKEN_HEADER"),
        ("FIELD", "TOKEN_FIELD"),
        ("SHOW_HOLDERS", "SHOW_HOLDER"),
    ],
)
def test_a_wrong_key_is_told_with_the_nearest_one(key, nearest):
    assert_error(
        found(**{key: 1}),
        "lock_tokens.E002",
        f"LOCK_TOKENS has no key {key!r}.",
        f"Did you mean {nearest!r}?",
    )


def test_a_key_that_is_no_text_is_a_wrong_key_too():
    with override_settings(LOCK_TOKENS={5: 1}):
        (error,) = check_settings()
    assert (error.id, error.msg) == ("lock_tokens.E002", "LOCK_TOKENS has no key 5.")


SECONDS = f"must be a whole number of seconds from 1 to {LONGEST}"
TEXT = "must be a non-empty string"
BOOLEAN = "must be True or False"
HEADER = "must be the name of an HTTP header, without underscores"
STATUS = "must be an HTTP status from 400 to 499 (403, 409 and 423 are useful)"
OUTSIDE = "must be one of 'refuse', 'respect', 'allow'"
HOLDER = "must be one of True, 'authenticated', False"
MODELS = 'must be None, "__all__" or a list of model labels such as "news.Article"'
ENFORCED = (
    'must be a list of model labels such as "news.Article", or a dict of labels and their options'
)
PERMISSION = "'lock_tokens.permissions.default'"


@pytest.mark.parametrize(
    ("key", "problem", "default", "values"),
    [
        ("TIMEOUT", SECONDS, "3600", [None, "60", 60.0, True, 0, -1, LONGEST + 1]),
        ("DATEFORMAT", TEXT, "'%Y-%m-%d %H:%M:%S %Z'", [None, 5, "", " ", ["%Y"]]),
        ("API_CSRF_EXEMPT", BOOLEAN, "False", [None, 0, 1, "False"]),
        (
            "API_MODELS",
            MODELS,
            "None",
            ["", "all", "app.Article", True, 5, {"app.Article": {}}, ["Article"], [None], ["a."]],
        ),
        ("API_PERMISSION", TEXT, PERMISSION, [None, "", len, 5]),
        ("API_LOCKED_STATUS", STATUS, "403", [None, "403", 403.0, True, 200, 399, 500]),
        (
            "ENFORCED_MODELS",
            ENFORCED,
            "{}",
            [None, "app.Article", 5, ["Article"], [5], {"Article": {}}, {"app.Article": None}],
        ),
        ("OUTSIDE_REQUEST", OUTSIDE, "'refuse'", [None, True, "", "Refuse", "deny", ["allow"]]),
        ("TOKEN_HEADER", HEADER, "'X-Lock-Token'", [None, 5, "", "X_Lock_Token", "X Lock", "é:"]),
        ("TOKEN_FIELD", TEXT, "'lock_token'", [None, 5, "", " "]),
        ("SHOW_HOLDER", HOLDER, "'authenticated'", [None, 0, 1, "True", "everybody", []]),
    ],
)
def test_a_wrong_type_or_value_is_told_with_what_applies_without_it(key, problem, default, values):
    for value in values:
        assert_error(
            found(**{key: value}),
            "lock_tokens.E003",
            f"LOCK_TOKENS[{key!r}] {problem}, not {value!r}.",
            f"Without it, {default} applies.",
        )


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"TIMEOUT": 1, "DATEFORMAT": "%c", "API_CSRF_EXEMPT": True, "API_LOCKED_STATUS": 423},
        {"TIMEOUT": LONGEST, "TOKEN_HEADER": "Lock-Token", "TOKEN_FIELD": "t"},
        {"API_MODELS": "__all__", "API_PERMISSION": "lock_tokens.permissions.is_authenticated"},
        {"API_MODELS": ("app.Article", "auth.user"), "SHOW_HOLDER": True},
        {"API_MODELS": None, "SHOW_HOLDER": False, "OUTSIDE_REQUEST": "allow"},
        {"ENFORCED_MODELS": ["app.Article", "auth.Group"], "OUTSIDE_REQUEST": "respect"},
        {
            "ENFORCED_MODELS": {
                "app.Article": {"TIMEOUT": 60, "EXEMPT_FIELDS": ["view_count"]},
                "app.Profile": {"POLICY": "respect", "EXEMPT_FIELDS": ("article", "article_id")},
                "app.Page": {"POLICY": "require", "REPORT_ONLY": True},
            }
        },
    ],
)
def test_right_settings_get_no_message(given):
    assert found(**given) == []


def test_without_the_setting_there_is_no_message(settings):
    del settings.LOCK_TOKENS
    assert check_settings() == check_middleware() == []


def test_every_error_is_told_at_once():
    errors = found(TIMEOUT=0, SHOW=1, API_MODELS=["app.Artikel"], API_PERMISSION="nowhere.f")
    ids = sorted(error.id for error in errors)
    assert ids == [f"lock_tokens.E00{number}" for number in (2, 3, 4, 5)]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("default", "default doesn't look like a module path"),
        ("nowhere.f", "No module named 'nowhere'"),
        (
            "lock_tokens.permissions.defualt",
            'Module "lock_tokens.permissions" does not define a "defualt" attribute/class',
        ),
        ("tests.test_checks.not_callable", "tests.test_checks.not_callable is not callable."),
    ],
)
def test_a_permission_that_cannot_be_used(path, problem):
    assert_error(
        found(API_PERMISSION=path),
        "lock_tokens.E004",
        f"LOCK_TOKENS['API_PERMISSION'] cannot be used: {problem}",
        "Name a function of (request, action, obj), such as "
        "'lock_tokens.permissions.is_authenticated'.",
    )


@pytest.mark.parametrize(
    ("label", "nearest"),
    [
        ("app.Artcle", "app.Article"),
        ("apps.Article", "app.Article"),
        ("auth.Users", "auth.User"),
        ("lock_tokens.LockableModel", "lock_tokens.LockToken"),
    ],
)
@pytest.mark.parametrize("key", ["API_MODELS", "ENFORCED_MODELS"])
def test_a_model_that_is_not_installed_is_told_with_the_nearest_one(key, label, nearest):
    assert_error(
        found(**{key: ["app.Page", label]}),
        "lock_tokens.E005",
        f"LOCK_TOKENS[{key!r}] names {label!r}, which is no installed model.",
        f"Did you mean {nearest!r}?",
    )


@pytest.mark.parametrize(
    ("option", "nearest"),
    [
        ("POLICIES", "POLICY"),
        ("timeout", "TIMEOUT"),
        ("REPORTONLY", "REPORT_ONLY"),
        ("EXEMPT", "EXEMPT_FIELDS"),
    ],
)
def test_a_wrong_option_is_told_with_the_nearest_one(option, nearest):
    assert_error(
        found(ENFORCED_MODELS={"app.Article": {option: 1}}),
        "lock_tokens.E006",
        f"LOCK_TOKENS['ENFORCED_MODELS']['app.Article'] has no option {option!r}.",
        f"Did you mean {nearest!r}?",
    )


FIELDS = "must be a list of names of fields of app.Article"


@pytest.mark.parametrize(
    ("option", "problem", "values"),
    [
        ("POLICY", "must be one of 'require', 'respect'", [None, True, "", "allow", ["require"]]),
        ("REPORT_ONLY", BOOLEAN, [None, 0, 1, "yes"]),
        ("TIMEOUT", SECONDS, [None, 0, "60", True]),
        ("EXEMPT_FIELDS", FIELDS, [[None], "title", None, 5, {"title": 1}]),
    ],
)
def test_a_wrong_value_of_an_option(option, problem, values):
    for value in values:
        assert_error(
            found(ENFORCED_MODELS={"app.Article": {option: value}}),
            "lock_tokens.E007",
            f"LOCK_TOKENS['ENFORCED_MODELS']['app.Article'][{option!r}] {problem}, not {value!r}.",
            None,
        )


@pytest.mark.parametrize(
    ("label", "value", "wrong", "nearest"),
    [
        ("app.Article", ["viewcount"], "viewcount", "view_count"),
        ("app.Article", ("title", "views"), "views", "view_count"),
        ("app.Article", ["titel", None], "titel", "title"),
        ("app.Article", ["profile"], "profile", "title"),
        ("app.Story", ["tag"], "tag", "tags"),
        ("app.Story", ["correction"], "correction", "section"),
        ("app.Story", ["correction_set"], "correction_set", "section_id"),
        ("app.Remark", ["about"], "about", "content_type"),
        ("auth.Group", ["users"], "users", "user"),
    ],
)
def test_a_field_that_cannot_be_exempt_is_told_with_the_nearest_one(label, value, wrong, nearest):
    assert_error(
        found(ENFORCED_MODELS={label: {"EXEMPT_FIELDS": value}}),
        "lock_tokens.E007",
        f"LOCK_TOKENS['ENFORCED_MODELS'][{label!r}]['EXEMPT_FIELDS'] must be a list of names of "
        f"fields of {label}, not {value!r}.",
        f"{wrong!r} is none. Did you mean {nearest!r}?",
    )


@pytest.mark.parametrize(
    ("label", "names"),
    [
        ("app.Story", ["views", "section", "section_id", "tags", "authors", "related"]),
        ("app.Story", {"shelf", "shelf_set"}),
        ("app.Person", ("stories", "read_remarks", "read")),
        ("app.LongRemark", ["text", "more", "readers"]),
        ("auth.Group", ["permissions", "user_set", "user"]),
        ("auth.User", ["last_login", "groups"]),
        ("app.Story", []),
    ],
)
def test_columns_and_many_to_many_relations_can_be_exempt(label, names):
    assert found(ENFORCED_MODELS={label: {"EXEMPT_FIELDS": names}}) == []


# VIA

NO_KEY = "must be the name of a foreign key, or of several in turn such as 'order.customer'"


def assert_wrong_via(label, value, problem, hint):
    assert_error(
        found(ENFORCED_MODELS={label: {"VIA": value}}),
        "lock_tokens.E007",
        f"LOCK_TOKENS['ENFORCED_MODELS'][{label!r}]['VIA'] {problem}, not {value!r}.",
        hint,
    )


@pytest.mark.parametrize("value", [None, 5, True, ["story"], "", " "])
def test_via_must_be_a_name(value):
    assert_wrong_via("app.Remark", value, NO_KEY, None)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("storey", "'storey' is no foreign key of app.Remark. Did you mean 'story'?"),
        ("Story", "'Story' is no foreign key of app.Remark. Did you mean 'story'?"),
        (
            "restaurants",
            "'restaurants' is no foreign key of app.Remark. Did you mean 'restaurant'?",
        ),
        ("text", "'text' is no foreign key of app.Remark. Did you mean 'content_type'?"),
        ("about", "'about' is no foreign key of app.Remark. Did you mean 'content_type'?"),
        ("readers", "'readers' is no foreign key of app.Remark. Did you mean 'restaurant'?"),
        ("longremark", "'longremark' is no foreign key of app.Remark. Did you mean 'restaurant'?"),
        ("story.sektion", "'sektion' is no foreign key of app.Story. Did you mean 'section'?"),
        ("story__tags", "'tags' is no foreign key of app.Story. Did you mean 'desk'?"),
        (
            "story.correction",
            "'correction' is no foreign key of app.Story. Did you mean 'section'?",
        ),
        ("story.", "'' is no foreign key of app.Story. Did you mean 'section'?"),
        ("story.section.name", "'name' is no foreign key of app.Section, which has none."),
    ],
    ids=lambda value: value.split(" ")[0],
)
def test_via_must_name_foreign_keys(value, hint):
    assert_wrong_via("app.Remark", value, NO_KEY, hint)


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("app.Remark", "reply_to"),
        ("app.Remark", "reply_to.reply_to"),
        ("app.LongRemark", "remark_ptr"),
        ("app.LongRemark", "reply_to"),
        ("app.City", "country.capital"),
    ],
)
def test_via_must_not_lead_back(label, value):
    assert_wrong_via(label, value, f"must lead to another model than {label} itself", None)


CIRCLES = [
    (
        {"app.Country": {"VIA": "capital"}, "app.City": {"VIA": "country"}},
        ["app.Country, app.City, app.Country", "app.City, app.Country, app.City"],
    ),
    (
        {
            "app.Country": {"VIA": "capital"},
            "app.City": {"VIA": "twin"},
            "app.Harbour": {"VIA": "country"},
        },
        [
            "app.Country, app.City, app.Harbour, app.Country",
            "app.City, app.Harbour, app.Country, app.City",
            "app.Harbour, app.Country, app.City, app.Harbour",
        ],
    ),
    (
        {"app.Country": {"VIA": "capital.twin"}, "app.Harbour": {"VIA": "country"}},
        ["app.Country, app.Harbour, app.Country", "app.Harbour, app.Country, app.Harbour"],
    ),
    (
        # Harbours lead into the circle, but are not on it.
        {
            "app.Country": {"VIA": "capital"},
            "app.City": {"VIA": "country"},
            "app.Harbour": {"VIA": "country"},
        },
        ["app.Country, app.City, app.Country", "app.City, app.Country, app.City"],
    ),
]


@pytest.mark.parametrize(("models", "ways"), CIRCLES)
def test_via_must_not_lead_in_a_circle(models, ways):
    assert [(error.id, error.msg, error.hint) for error in found(ENFORCED_MODELS=models)] == [
        (
            "lock_tokens.E010",
            f"LOCK_TOKENS['ENFORCED_MODELS'][{way.partition(',')[0]!r}]['VIA'] leads in a circle: "
            f"{way}.",
            "Remove the VIA of one of them, which then has a lock of its own.",
        )
        for way in ways
    ]


@pytest.mark.parametrize(
    "models",
    [
        {"app.Correction": {"VIA": "story"}},
        {"app.Correction": {"VIA": "story"}, "app.Reply": {"VIA": "correction"}, "app.Story": {}},
        {"app.Reply": {"VIA": "correction.story"}},
        {"app.Reply": {"VIA": "correction__story"}},
        {"app.Remark": {"VIA": "reply_to.story"}},
        {"app.Remark": {"VIA": "story_id"}},
        {"app.LongRemark": {"VIA": "restaurant"}},
        {"app.Profile": {"VIA": "article"}},
        {"app.City": {"VIA": "country"}, "app.Harbour": {"VIA": "country"}},
        {"app.Correction": {"VIA": "story", "POLICY": "respect", "REPORT_ONLY": True}},
        {"app.Correction": {"VIA": "story", "TIMEOUT": 5, "EXEMPT_FIELDS": ["seen"]}},
    ],
)
def test_a_right_via_gets_no_message(models):
    assert found(ENFORCED_MODELS=models) == []


# Middleware


def middleware(*paths, **lock_tokens):
    lock_tokens = lock_tokens or {"ENFORCED_MODELS": ["app.Article"]}
    with override_settings(MIDDLEWARE=paths, LOCK_TOKENS=lock_tokens):
        return check_middleware()


def test_enforcement_without_the_middleware_is_warned_of():
    (warning,) = middleware(SESSIONS, AUTHENTICATION)
    assert isinstance(warning, checks.Warning)
    assert warning.id == "lock_tokens.W001"
    assert warning.msg == (
        "LOCK_TOKENS['ENFORCED_MODELS'] is set, but requests cannot present tokens: "
        f"MIDDLEWARE does not contain {LOCKS!r}."
    )
    assert warning.hint == "Add it after the session and authentication middleware."


@pytest.mark.parametrize(
    ("paths", "before"),
    [
        ([LOCKS, SESSIONS, AUTHENTICATION], [SESSIONS, AUTHENTICATION]),
        ([SESSIONS, LOCKS, AUTHENTICATION], [AUTHENTICATION]),
        ([LOCKS, SESSIONS], [SESSIONS]),
        (["tests.test_checks.OwnLockTokenMiddleware", SESSIONS], [SESSIONS]),
        (
            [SESSIONS, LOCKS, "tests.test_checks.OwnAuthenticationMiddleware"],
            [AUTHENTICATION],
        ),
    ],
)
def test_the_middleware_before_those_it_reads_from_is_an_error(paths, before):
    errors = middleware(*paths)
    assert [error.msg for error in errors] == [
        f"{LOCKS!r} stands before {path!r} in MIDDLEWARE, so it cannot rely on it."
        for path in before
    ]
    assert {(error.id, error.hint) for error in errors} == {
        ("lock_tokens.E008", "Move it further down.")
    }


@pytest.mark.parametrize(
    "paths",
    [
        [SESSIONS, AUTHENTICATION, LOCKS],
        [SESSIONS, AUTHENTICATION, "tests.test_checks.OwnLockTokenMiddleware"],
        [SESSIONS, "tests.test_checks.OwnAuthenticationMiddleware", LOCKS],
        ["nowhere.Middleware", SESSIONS, "django.middleware.common.CommonMiddleware", LOCKS],
        [LOCKS],
    ],
)
def test_the_middleware_in_its_place_gets_no_message(paths):
    assert middleware(*paths) == []


def test_without_enforced_models_no_middleware_is_needed():
    assert middleware(SESSIONS, TIMEOUT=60) == []
    assert middleware(SESSIONS, ENFORCED_MODELS=5) == []


def test_with_wrong_settings_the_middleware_refuses_to_start():
    wrong = override_settings(LOCK_TOKENS={"TIMEOUT": 0, "SHOW": 1})
    with wrong, pytest.raises(ImproperlyConfigured) as caught:
        Client().get("/")
    assert str(caught.value) == (
        f"LOCK_TOKENS['TIMEOUT'] {SECONDS}, not 0. LOCK_TOKENS has no key 'SHOW'."
    )


# Deployment


def deployed(urlconf="tests.urls", **lock_tokens):
    with override_settings(LOCK_TOKENS=lock_tokens, ROOT_URLCONF=urlconf):
        return [(warning.id, warning.msg, warning.hint) for warning in check_deployment()]


ALL = (
    "lock_tokens.W002",
    "LOCK_TOKENS['API_MODELS'] is '__all__': the REST API can lock any object.",
    "List the models that clients need to lock.",
)


def anybody(models):
    return (
        "lock_tokens.W003",
        f"Anybody, logged in or not, can lock objects of {models}.",
        "Set LOCK_TOKENS['API_PERMISSION'] to 'lock_tokens.permissions.is_authenticated' or "
        "'can_change_object' beside it.",
    )


AUTHENTICATED = {"API_PERMISSION": "lock_tokens.permissions.is_authenticated"}


def test_deployment_warns_of_an_api_for_everything():
    assert deployed(API_MODELS="__all__", **AUTHENTICATED) == [ALL]
    lockable = anybody("app.Chapter, app.Page")
    assert deployed(API_MODELS="__all__") == [ALL, lockable]


def test_deployment_warns_of_what_anybody_can_lock_and_of_nothing_else():
    assert deployed() == [anybody("app.Chapter, app.Page")]
    named = ["auth.Group", "app.Article"]
    assert deployed(API_MODELS=named) == [anybody("app.Article, app.ArticleProxy, auth.Group")]
    assert deployed(API_MODELS=["app.Page"]) == [anybody("app.Page")]
    assert deployed(API_MODELS=[]) == []
    assert deployed(ENFORCED_MODELS=["app.Article"]) == [anybody("app.Chapter, app.Page")]
    assert deployed(**AUTHENTICATED) == []


def test_deployment_says_nothing_where_the_api_is_not_served_or_the_settings_are_wrong():
    assert deployed(urlconf="tests.test_checks", API_MODELS="__all__") == []
    assert deployed(API_MODELS="__all__", TIMEOUT=0) == []


# Wiring


def ids(messages):
    return [message.id for message in messages if message.id.startswith("lock_tokens.")]


# All checks together ask the database, whether it can store JSON for example.
@pytest.mark.django_db
def test_the_checks_are_registered(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"], "TIMEOUT": 0}
    settings.MIDDLEWARE = [SESSIONS]
    assert sorted(ids(checks.run_checks())) == ["lock_tokens.E003", "lock_tokens.W001"]
    with pytest.raises(SystemCheckError, match=r"\(lock_tokens\.E003\) LOCK_TOKENS\['TIMEOUT'\]"):
        call_command("check")


@pytest.mark.django_db
@pytest.mark.parametrize("tags", [None, [checks.Tags.security]])
def test_the_deployment_checks_are_registered_for_deployments_only(settings, tags):
    settings.LOCK_TOKENS = {"API_MODELS": "__all__"}
    assert ids(checks.run_checks(tags=tags)) == []
    found = ids(checks.run_checks(tags=tags, include_deployment_checks=True))
    assert found == ["lock_tokens.W002", "lock_tokens.W003"]


@pytest.mark.django_db
def test_the_test_project_itself_gets_no_message():
    assert django_settings.LOCK_TOKENS == {"ENFORCED_MODELS": {}}
    assert ids(checks.run_checks()) == []


class TestDatabases:
    """The databases that can run here are fine; the others are shown by what they say of them."""

    def problem(self, **facts):
        return lock_checks._database_problem(SimpleNamespace(**facts))

    def test_the_one_the_tests_run_on_is_supported(self):
        assert check_databases(databases=["default"]) == []

    def test_without_databases_none_is_asked(self):
        assert check_databases() == check_databases(databases=None) == []

    @pytest.mark.parametrize(
        ("version", "problem"), [((3, 34, 1), "SQLite 3.34.1"), ((3, 35), None)]
    )
    def test_sqlite_needs_returning(self, version, problem):
        text = ".".join(map(str, version))
        driver = SimpleNamespace(sqlite_version=text, sqlite_version_info=version)
        assert self.problem(vendor="sqlite", display_name="SQLite", Database=driver) == problem

    @pytest.mark.parametrize(
        ("version", "problem"), [((10, 4, 9), "MariaDB 10.4.9"), ((10, 5, 0), None)]
    )
    def test_mariadb_needs_returning(self, version, problem):
        facts = {"mysql_is_mariadb": True, "mysql_version": version, "display_name": "MariaDB"}
        assert self.problem(vendor="mysql", **facts) == problem

    def test_mysql_and_oracle_are_not_supported(self):
        assert self.problem(vendor="mysql", mysql_is_mariadb=False, display_name="MySQL") == "MySQL"
        assert self.problem(vendor="oracle", display_name="Oracle") == "Oracle"

    def test_the_message_names_the_database_and_what_to_use(self, monkeypatch):
        monkeypatch.setattr(lock_checks, "_database_problem", lambda connection: "MySQL")
        (message,) = checks.run_checks(tags=["database"], databases=["default"])
        assert message.id == "lock_tokens.E009"
        assert message.msg == "django-lock-tokens does not work on MySQL, the database 'default'."
        assert message.hint == "Use PostgreSQL, MariaDB 10.5 or newer, or SQLite 3.35 or newer."
