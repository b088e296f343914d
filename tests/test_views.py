"""The REST API over HTTP: SPEC's table row by row, for keys of every shape."""

import json
import logging
from urllib.parse import quote as percent

import pytest
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection, models
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from freezegun import freeze_time

from lock_tokens import locking
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.targets import target_of
from tests.app.models import (
    Article,
    ArticleProxy,
    Bistro,
    Dated,
    Line,
    Page,
    Place,
    Profile,
    Restaurant,
    Slug,
    Uuid,
)


class Measure(models.Model):
    size = models.FloatField(primary_key=True)

    class Meta:
        app_label = "app"


class Price(models.Model):
    amount = models.DecimalField(primary_key=True, max_digits=10, decimal_places=2)

    class Meta:
        app_label = "app"


class Span(models.Model):
    length = models.DurationField(primary_key=True)

    class Meta:
        app_label = "app"


pytestmark = pytest.mark.django_db

NOON = "2026-11-22 12:00:00"
WRONG = "0" * 32
OPEN = [
    "app.Article",
    "app.Place",
    "app.Uuid",
    "app.Slug",
    "app.Line",
    "app.Profile",
    "app.Dated",
    "app.Page",
]
HOLDERS = ["url", "header"]
SHAPES = {
    "integer": lambda: Article.objects.create(title="a"),
    "uuid": lambda: Uuid.objects.create(name="a"),
    "text": lambda: Slug.objects.create(slug="A/b c"),
    "quoted-looking text": lambda: Slug.objects.create(slug="A_2Fb?#%.."),
    "unicode": lambda: Slug.objects.create(slug="Ünïcödé ١٢ 🐍"),
    "composite": lambda: Line.objects.create(order=7, number=8),
    "relation": lambda: Profile.objects.create(article=Article.objects.create(title="a")),
    "moment": lambda: Dated.objects.create(at=timezone.now()),
    "proxy": lambda: ArticleProxy.objects.create(title="a"),
    "child": lambda: Restaurant.objects.create(name="a"),
    "grandchild": lambda: Bistro.objects.create(name="a"),
    "lockable by its base": lambda: Page.objects.create(title="a"),
}


@pytest.fixture(autouse=True)
def clock(settings):
    settings.LOCK_TOKENS = {"API_MODELS": OPEN}
    ContentType.objects.clear_cache()
    with freeze_time(NOON) as clock:
        yield clock


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def obj(request):
    return request.param()


@pytest.fixture
def article():
    return Article.objects.create(title="a")


def url_of(obj, model=None):
    meta = (model or type(obj))._meta
    key = json.dumps(obj.pk) if isinstance(obj.pk, tuple) else str(obj.pk)
    return reverse("lock-tokens:list-view", args=[meta.app_label, meta.model_name, quote(key)])


def as_holder(client, road, method, url, token, header="X-Lock-Token"):
    """Send ``token`` in the URL or in the header."""
    if road == "url":
        return client.generic(method, f"{url}{token}/")
    return client.generic(method, url, headers={header: token})


def assert_carries_token(response, token, expires, seconds):
    assert response.json() == {"token": token, "expires": expires}
    assert response["Content-Type"] == "application/json"
    assert response["Timeout"] == f"Second-{seconds}"
    assert response["Cache-Control"] == "no-store"


def assert_problem(response, status, title, detail):
    assert response.status_code == status
    assert response["Content-Type"] == "application/problem+json"
    assert response["Cache-Control"] == "no-store"
    assert response.json() == {"title": title, "status": status, "detail": detail}


# POST <app>/<model>/<id>/


def test_a_post_takes_the_lock(client, obj):
    response = client.post(url_of(obj))
    lock = LockToken.objects.get_for_object(obj)
    assert response.status_code == 201
    assert_carries_token(response, lock.token_str, "2026-11-22 13:00:00 UTC", 3600)


def test_a_post_on_a_locked_object_says_since_and_until_when_and_changes_nothing(client, article):
    token = client.post(url_of(article)).json()["token"]
    response = client.post(url_of(article))
    assert response.status_code == 403
    assert response["Content-Type"] == "application/problem+json"
    assert response["Cache-Control"] == "no-store"
    assert "Retry-After" not in response
    assert response.json() == {
        "title": "Locked",
        "status": 403,
        "detail": f"app.Article {article.pk} is already locked; try again when it is free. "
        "Locked since 2026-11-22 12:00:00+00:00 until 2026-11-22 13:00:00+00:00.",
        "type": "urn:django-lock-tokens:AlreadyLockedError",
        "object": {"model": "app.Article", "pk": str(article.pk)},
        "lock": {
            "since": "2026-11-22T12:00:00+00:00",
            "until": "2026-11-22T13:00:00+00:00",
            "by": None,
        },
    }
    assert LockToken.objects.get().token_str == token


def test_a_post_on_a_locked_object_is_refused_for_every_key(client, obj):
    client.post(url_of(obj))
    assert client.post(url_of(obj)).status_code == 403


@pytest.mark.parametrize("status", [403, 409, 423])
def test_the_status_for_a_locked_object_is_a_setting(client, article, settings, clock, status):
    settings.LOCK_TOKENS = {"API_MODELS": OPEN, "API_LOCKED_STATUS": status}
    client.post(url_of(article))
    clock.tick(600.5)
    response = client.post(url_of(article))
    assert response.status_code == response.json()["status"] == status
    # Retry-After belongs to 423, and is rounded up: a second too early would be refused.
    assert response.get("Retry-After") == ("3000" if status == 423 else None)


def test_a_post_takes_an_expired_lock_over_and_the_old_token_is_worth_nothing(
    client, article, clock
):
    old = client.post(url_of(article)).json()["token"]
    clock.tick(3600)
    response = client.post(url_of(article))
    assert response.status_code == 201
    assert response.json()["token"] != old
    assert as_holder(client, "url", "PATCH", url_of(article), old).status_code == 403


@pytest.mark.parametrize("method", ["POST", "GET", "PATCH", "DELETE"])
def test_an_object_that_does_not_exist_is_not_found(client, article, method):
    url = url_of(article)
    Article.objects.all().delete()
    for response in [client.generic(method, url), as_holder(client, "url", method, url, WRONG)]:
        if response.status_code != 405:
            assert_problem(response, 404, "Not found", "There is no such object.")


def test_an_object_with_a_key_too_long_for_a_lock_is_not_found(client):
    slug = Slug.objects.create(slug="x" * 256)
    assert client.post(url_of(slug)).status_code == 404


def test_the_lock_remembers_the_user_who_took_it(client, django_user_model, article):
    alice = django_user_model.objects.create_user("alice")
    client.force_login(alice)
    client.post(url_of(article))
    assert LockToken.objects.get().locked_by == alice


def test_the_model_s_own_timeout_counts(client, article, settings):
    settings.LOCK_TOKENS = {
        "API_MODELS": OPEN,
        "ENFORCED_MODELS": {"app.Article": {"TIMEOUT": 60}},
    }
    assert client.post(url_of(article))["Timeout"] == "Second-60"


# GET, PATCH and DELETE with the token


@pytest.mark.parametrize("road", HOLDERS)
def test_the_holder_asks_renews_and_releases(client, obj, clock, road):
    url = url_of(obj)
    token = client.post(url).json()["token"]
    clock.tick(600.5)

    response = as_holder(client, road, "GET", url, token)
    assert response.status_code == 200
    # Rounded down: the client must not believe in a second that is not its own.
    assert_carries_token(response, token, "2026-11-22 13:00:00 UTC", 2999)

    response = as_holder(client, road, "PATCH", url, token)
    assert response.status_code == 200
    assert_carries_token(response, token, "2026-11-22 13:10:00 UTC", 3600)
    assert LockToken.objects.get_for_object(obj).locked_at == timezone.now()

    response = as_holder(client, road, "DELETE", url, token)
    assert response.status_code == 204
    assert response.content == b""
    assert response["Cache-Control"] == "no-store"
    assert not LockToken.objects.exists()


@pytest.mark.parametrize("road", HOLDERS)
def test_an_expired_lock_that_nobody_took_over_is_still_its_holder_s(client, article, clock, road):
    url = url_of(article)
    token = client.post(url).json()["token"]
    clock.tick(7200)
    response = as_holder(client, road, "GET", url, token)
    assert response.status_code == 200
    assert_carries_token(response, token, "2026-11-22 13:00:00 UTC", 0)
    assert as_holder(client, road, "PATCH", url, token)["Timeout"] == "Second-3600"
    clock.tick(7200)
    assert as_holder(client, road, "DELETE", url, token).status_code == 204


@pytest.mark.parametrize("road", HOLDERS)
@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_a_token_for_an_object_without_a_lock_is_not_found(client, article, road, method):
    response = as_holder(client, road, method, url_of(article), WRONG)
    assert_problem(response, 404, "Not found", "This object is not locked.")


@pytest.mark.parametrize("road", HOLDERS)
@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("token", [WRONG, "x" * 5000, "é", "a b"])
def test_a_wrong_token_is_forbidden_and_changes_nothing(
    client, article, clock, road, method, token
):
    target = target_of(article)
    held = locking.acquire(target)
    clock.tick(10)
    response = as_holder(client, road, method, url_of(article), token)
    detail = "This is not the token of the lock on this object."
    assert_problem(response, 403, "Forbidden", detail)
    assert locking.read(target) == held


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_without_a_token_there_is_nothing_to_renew_or_release(client, article, method):
    assert client.generic(method, url_of(article)).status_code == 404
    locking.acquire(target_of(article))
    assert client.generic(method, url_of(article)).status_code == 403
    assert locking.is_locked(target_of(article))


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("others", [1, 99])
def test_the_header_may_bring_several_tokens(client, article, method, others):
    token = client.post(url_of(article)).json()["token"]
    header = ", ".join([*[WRONG] * others, token])
    assert as_holder(client, "header", method, url_of(article), header).status_code < 300


def test_more_tokens_than_a_hundred_are_a_bad_request(client, article):
    client.post(url_of(article))
    response = as_holder(client, "header", "GET", url_of(article), ",".join([WRONG] * 101))
    detail = "The request presents 101 lock tokens; 100 at most are read."
    assert_problem(response, 400, "Bad request", detail)


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_the_name_of_the_header_is_a_setting(client, article, settings, method):
    url = url_of(article)
    token = client.post(url).json()["token"]
    settings.LOCK_TOKENS = {"API_MODELS": OPEN, "TOKEN_HEADER": "X-Key"}
    by_default = as_holder(client, "header", method, url, token)
    assert by_default.json() != {"token": token}
    assert "Timeout" not in by_default
    assert as_holder(client, "header", method, url, token, "X-Key").status_code < 300


@pytest.mark.parametrize("method", ["POST", "PUT", "TRACE", "FOO"])
def test_other_methods_are_not_allowed_on_a_token(client, article, method):
    response = as_holder(client, "url", method, url_of(article), WRONG)
    assert response.status_code == 405
    assert response["Allow"] == "GET, PATCH, DELETE, HEAD, OPTIONS"


def test_a_head_and_an_options_request_change_nothing(client, article):
    url = url_of(article)
    assert client.head(url).status_code == client.options(url).status_code == 200
    assert not LockToken.objects.exists()


# GET <app>/<model>/<id>/


def test_the_status_of_an_object_that_is_free(client, obj, clock):
    free = {"locked": False, "expires": None, "locked_by": None}
    assert client.get(url_of(obj)).json() == free
    client.post(url_of(obj))
    clock.tick(3600)
    assert client.get(url_of(obj)).json() == free


def test_the_status_of_a_locked_object_has_no_token(client, obj, clock):
    client.post(url_of(obj))
    clock.tick(3599)
    response = client.get(url_of(obj))
    assert response.status_code == 200
    assert response.json() == {
        "locked": True,
        "expires": "2026-11-22 13:00:00 UTC",
        "locked_by": None,
    }
    assert "Timeout" not in response
    assert response["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("show", "to_anonymous", "to_user"),
    [(True, "alice", "alice"), ("authenticated", None, "alice"), (False, None, None)],
)
def test_show_holder_decides_who_is_told_the_holder_s_name(
    client, article, settings, show, to_anonymous, to_user
):
    settings.LOCK_TOKENS = {"API_MODELS": OPEN, "SHOW_HOLDER": show}
    locking.acquire(target_of(article), by=User.objects.create_user("alice").pk)

    assert client.get(url_of(article)).json()["locked_by"] == to_anonymous
    assert client.post(url_of(article)).json()["lock"]["by"] == to_anonymous
    client.force_login(User.objects.create_user("bob"))
    assert client.get(url_of(article)).json()["locked_by"] == to_user
    assert client.post(url_of(article)).json()["lock"]["by"] == to_user
    assert ("by alice" in client.post(url_of(article)).json()["detail"]) == bool(to_user)


# One object, one lock


@pytest.mark.parametrize(
    ("make", "one", "other"),
    [
        (SHAPES["integer"], Article, ArticleProxy),
        (SHAPES["integer"], ArticleProxy, Article),
        (SHAPES["child"], Restaurant, Place),
        (SHAPES["child"], Place, Restaurant),
        (SHAPES["grandchild"], Bistro, Place),
    ],
)
def test_the_same_object_is_the_same_lock_under_each_of_its_names(client, make, one, other):
    obj = make()
    token = client.post(url_of(obj, one)).json()["token"]
    assert client.post(url_of(obj, other)).status_code == 403
    assert as_holder(client, "url", "GET", url_of(obj, other), token).status_code == 200
    assert as_holder(client, "url", "DELETE", url_of(obj, other), token).status_code == 204
    assert client.get(url_of(obj, one)).json()["locked"] is False


def test_a_place_is_not_found_under_the_name_of_a_child_that_it_is_not(client):
    assert client.post(url_of(Place.objects.create(name="a"), Restaurant)).status_code == 404


@pytest.mark.parametrize(
    ("key", "in_url"),
    [
        ("A/b c", "A_2Fb%20c"),
        ("A/b c", "A_2Fb c"),
        ("A_2Fb c", "A_5F2Fb%20c"),
        ("100%", "100_25"),
        ("100%", "100%25"),
        ("é", "%C3%A9"),
        ("..", ".."),
    ],
)
def test_keys_are_quoted_as_the_admin_quotes_them(client, key, in_url):
    Slug.objects.create(slug=key)
    Slug.objects.create(slug="another")
    assert client.post(f"/lock_tokens/app/slug/{in_url}/").status_code == 201
    assert LockToken.objects.get().locked_object_id == key


@pytest.mark.parametrize("in_url", ["[7, 8]", "[7,8]", '["7", "8"]', "_5B7_2C8_5D"])
def test_a_composite_key_is_a_json_list(client, in_url):
    line = Line.objects.create(order=7, number=8)
    Line.objects.create(order=8, number=7)
    assert client.post(f"/lock_tokens/app/line/{percent(in_url)}/").status_code == 201
    assert LockToken.objects.get().locked_object == line


@pytest.mark.parametrize("name", ["App/Article", "app/ARTICLE", "app/article"])
def test_the_model_s_name_may_be_in_any_case_but_the_app_s_is_its_label(client, article, name):
    found = client.post(f"/lock_tokens/{name}/{article.pk}/").status_code
    assert found == (404 if name.startswith("App") else 201)


# CSRF


def csrf_client():
    return Client(enforce_csrf_checks=True)


METHODS = {"POST": "", "PATCH": WRONG, "DELETE": WRONG}


@pytest.mark.parametrize("with_middleware", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_csrf_is_checked_by_default_also_without_the_global_middleware(
    article, settings, with_middleware, method
):
    if not with_middleware:
        settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "Csrf" not in name]
    url = url_of(article)
    token = METHODS[method] and locking.acquire(target_of(article)).token
    road = f"{url}{token}/" if token else url

    client = csrf_client()
    refused = client.generic(method, road)
    assert refused.status_code == 403
    assert "Timeout" not in refused
    assert LockToken.objects.exists() is bool(token)

    secret = "a" * 32
    client.cookies["csrftoken"] = secret
    assert client.generic(method, road, headers={"X-CSRFToken": secret}).status_code < 300


@pytest.mark.parametrize("method", METHODS)
def test_the_setting_exempts_from_csrf_as_soon_as_it_is_set(article, settings, method):
    url = url_of(article)
    token = METHODS[method] and locking.acquire(target_of(article)).token
    road = f"{url}{token}/" if token else url
    assert csrf_client().generic(method, road).status_code == 403
    settings.LOCK_TOKENS = {"API_MODELS": OPEN, "API_CSRF_EXEMPT": True}
    assert csrf_client().generic(method, road).status_code < 300
    settings.LOCK_TOKENS = {"API_MODELS": OPEN}
    assert csrf_client().generic(method, road).status_code == 403


def test_reading_needs_no_csrf_token(article):
    token = locking.acquire(target_of(article)).token
    assert csrf_client().get(url_of(article)).status_code == 200
    assert csrf_client().get(f"{url_of(article)}{token}/").status_code == 200


# No input gives a 500


HUGE = "9" * 40
BAD = [
    "app/article/abc",
    f"app/article/{HUGE}",
    f"app/article/-{HUGE}",
    "app/article/" + "9" * 5000,
    "app/article/9223372036854775808",
    "app/article/%D9%A1%D9%A2",
    "app/article/1_0",
    "app/article/1.5",
    "app/article/%00",
    "app/article/1%00",
    "app/article/%25",
    "app/article/..",
    "app/article/%2E%2E",
    "app/article/%FF%FE",
    "app/article/%ED%A0%80",
    "app/article/_",
    "app/article/null",
    "app/article/[1]",
    "app/restaurant/abc",
    f"app/restaurant/{HUGE}",
    "app/profile/abc",
    f"app/profile/{HUGE}",
    "app/uuid/abc",
    "app/uuid/123",
    "app/uuid/%7B%7D",
    "app/uuid/" + "f" * 33,
    "app/uuid/%00",
    "app/slug/%00",
    "app/slug/a%00b",
    "app/slug/" + "x" * 10000,
    "app/slug/%FF",
    "app/slug/%F0%9F%90%8D",
    "app/line/1",
    "app/line/[",
    "app/line/[]",
    "app/line/[1]",
    "app/line/[1,2,3]",
    "app/line/{}",
    'app/line/{"1":1,"2":2}',
    "app/line/null",
    "app/line/[null,null]",
    "app/line/[1,null]",
    "app/line/[[1],[2]]",
    'app/line/["a","b"]',
    'app/line/["\\ud800","\\u0000"]',
    "app/line/[NaN,1]",
    "app/line/[1e999,1]",
    "app/line/[-Infinity,1]",
    f"app/line/[{HUGE},1]",
    "app/line/[" + "9" * 5000 + ",1]",
    "app/line/" + "[" * 100000,
    "app/line/true",
    'app/line/"ab"',
    "app/dated/abc",
    "app/dated/0",
    "app/dated/2026-13-45",
    "app/dated/2026-11-22",
    "app/dated/2026-11-22 12:00:00",
    "app/dated/2026-11-22T12:00:00",
    "app/dated/0001-01-01 00:00:00_2B23:59",
    "app/dated/9999-12-31 23:59:59-23:59",
    "app/dated/2026-11-22 12:00:00_2B99:99",
    f"app/dated/{HUGE}",
    "app/measure/NaN",
    "app/measure/inf",
    "app/measure/-Infinity",
    "app/measure/1e999",
    "app/measure/abc",
    "app/price/NaN",
    "app/price/sNaN",
    "app/price/Infinity",
    "app/price/1e1000000",
    "app/price/1e-1000000",
    f"app/price/{HUGE}",
    "app/price/abc",
    "app/span/abc",
    "app/span/NaN",
    "app/span/999999999 23:59:59",
    "app/span/-999999999 00:00:00",
    f"app/span/{HUGE}",
    f"app/span/P{HUGE}D",
    "sessions/session/abc",
    "sessions/session/%00",
    "contenttypes/contenttype/abc",
    "auth/user/abc",
    "auth/user_groups/abc",
    "gone/thing/1",
    "nowhere/nothing/1",
    "app/nothing/1",
    "app/lockablemodel/1",
    "lock_tokens/lockablemodel/1",
    "lock_tokens/locktoken/abc",
    "../../1",
    "app.Article/article/1",
    "%00/%00/%00",
    "%FF/%FF/%FF",
    "%F0%9F%90%8D/%F0%9F%90%8D/%F0%9F%90%8D",
]


@pytest.fixture(params=[False, True], ids=["", "atomic requests"])
def everything_open(request, settings, monkeypatch):
    """Open the API to every model, with and without ATOMIC_REQUESTS."""
    settings.LOCK_TOKENS = {
        "API_MODELS": "__all__",
        "API_PERMISSION": "lock_tokens.permissions.is_authenticated",
    }
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", request.param)
    ContentType.objects.create(app_label="gone", model="thing")


@pytest.mark.usefixtures("everything_open")
@pytest.mark.parametrize("path", BAD, ids=lambda path: path[:40])
def test_what_names_no_object_is_not_found(admin_client, path):
    url = f"/lock_tokens/{path}/"
    for response in [
        admin_client.get(url),
        admin_client.post(url),
        as_holder(admin_client, "header", "PATCH", url, WRONG),
        as_holder(admin_client, "url", "DELETE", url, WRONG),
    ]:
        assert response.status_code == 404
    # The transaction, if there is one, is still good for statements.
    assert not LockToken.objects.exists()


@pytest.mark.usefixtures("everything_open")
@pytest.mark.parametrize(
    "make",
    [
        lambda: SessionStore.get_model_class().objects.get(),
        lambda: ContentType.objects.get(app_label="gone"),
        lambda: User.objects.get(),
        lambda: Permission.objects.first(),
        lambda: Measure.objects.create(size=1.5),
        lambda: Price.objects.create(amount="9.50"),
        lambda: Span.objects.create(length=timezone.timedelta(days=1, microseconds=7)),
        lambda: LockToken.objects.create(locked_object=User.objects.get()),
    ],
)
def test_every_model_can_be_opened(admin_client, make):
    obj = make()
    obj.refresh_from_db()
    token = admin_client.post(url_of(obj)).json()["token"]
    assert as_holder(admin_client, "url", "GET", url_of(obj), token).status_code == 200
    assert as_holder(admin_client, "header", "DELETE", url_of(obj), token).status_code == 204


@pytest.mark.usefixtures("everything_open")
@pytest.mark.parametrize(
    "token", ["x" * 10000, "%00", "%FF", "%F0%9F%90%8D", "..", "%25", "_2F", "a,b", "%20", "%0A"]
)
@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE", "POST", "OPTIONS"])
def test_a_strange_token_in_the_url_is_just_wrong(admin_client, article, method, token):
    locking.acquire(target_of(article))
    url = f"{url_of(article)}{token}/"
    expected = {"POST": 405, "OPTIONS": 200}.get(method, 403)
    assert admin_client.generic(method, url).status_code == expected


@pytest.mark.usefixtures("everything_open")
@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("", 200),
        (" , ,", 200),
        ("é", 403),
        ("\x00", 403),
        ("x" * 100000, 403),
        (",".join(["a"] * 100), 403),
        (",".join(["a"] * 101), 400),
    ],
)
def test_a_strange_token_in_the_header_is_wrong_or_none(admin_client, article, header, status):
    locking.acquire(target_of(article))
    response = as_holder(admin_client, "header", "GET", url_of(article), header)
    assert response.status_code == status


@pytest.mark.usefixtures("everything_open")
@pytest.mark.parametrize(
    "content_type",
    ["", "nonsense", "multipart/form-data", "application/x-www-form-urlencoded; charset=bogus"],
)
def test_a_body_is_not_looked_at(admin_client, article, content_type):
    response = admin_client.generic("POST", url_of(article), b"\xff%", content_type)
    assert response.status_code == 201


# Statements


def test_statements_of_an_anonymous_client(client, article, assert_statements):
    url = url_of(article)
    ContentType.objects.get_for_model(Article)
    with assert_statements(2):  # the object, acquire
        token = client.post(url).json()["token"]
    told = int(connection.vendor == "mysql")
    with assert_statements(3 - told):  # the object, acquire, the lock that is there
        client.post(url)
    with assert_statements(2):  # the object, the lock
        client.get(url)
    for road in HOLDERS:
        with assert_statements(2):  # the object, the lock
            as_holder(client, road, "GET", url, token)
        with assert_statements(2):  # the object, renew
            as_holder(client, road, "PATCH", url, token)
        with assert_statements(3):  # the object, renew, why not
            as_holder(client, road, "PATCH", url, WRONG)
        with assert_statements(3):  # the object, release, why not
            as_holder(client, road, "DELETE", url, WRONG)
    with assert_statements(2):  # the object, release
        as_holder(client, "header", "DELETE", url, token)


def test_statements_of_a_user(client, article, assert_statements):
    client.force_login(User.objects.create_user("alice"))
    ContentType.objects.get_for_model(Article)
    with assert_statements(4):  # session, user, the object, acquire
        token = client.post(url_of(article)).json()["token"]
    with assert_statements(2):  # who asks does not matter to those who show the token
        as_holder(client, "header", "PATCH", url_of(article), token)


def test_what_is_not_lockable_costs_no_statement(client, settings, assert_statements):
    settings.LOCK_TOKENS = {}
    with assert_statements(0):
        assert client.post("/lock_tokens/auth/user/1/").status_code == 404


# Logs


@pytest.mark.parametrize("road", HOLDERS)
def test_no_log_line_has_a_token(client, article, settings, caplog, road):
    """Django logs the path of refused requests, also when they bring the valid token."""
    caplog.set_level(logging.DEBUG)
    url = url_of(article)
    token = client.post(url).json()["token"]
    client.post(url)
    as_holder(client, road, "PUT", url, token)
    as_holder(csrf_client(), road, "PATCH", url, token)
    as_holder(client, road, "PATCH", url, WRONG)
    settings.LOCK_TOKENS = {}
    as_holder(client, road, "PATCH", url, token)
    settings.LOCK_TOKENS = {"API_MODELS": OPEN}
    as_holder(client, road, "DELETE", url, token)
    assert f"Forbidden: {url}" in caplog.text
    assert token not in caplog.text
    assert WRONG not in caplog.text


def test_the_log_without_the_token_still_says_which_object_it_was(client, article, caplog):
    locking.acquire(target_of(article))
    as_holder(client, "url", "GET", url_of(article), "a")
    assert caplog.messages == [f"Forbidden: {url_of(article)}***/"]


def test_lockable_models_need_no_setting(client, settings):
    settings.LOCK_TOKENS = {}
    page = Page.objects.create(title="a")
    token = client.post(url_of(page)).json()["token"]
    assert LockableModel.check_lock(page, token) is True
