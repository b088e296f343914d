"""Whatever a client sends to the REST API, it gets an answer below 500."""

import json
import os
from urllib.parse import quote as percent

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lock_tokens import locking
from lock_tokens.models import LockToken
from lock_tokens.targets import target_of
from tests.app.models import Article, Line, Slug, Uuid

# Registers keys of more types.
from tests.test_views import Measure, Price, Span  # noqa: F401

pytestmark = pytest.mark.django_db

bounded = settings(
    max_examples=150,
    deadline=None,
    database=None,
    # The same examples every time where a red run stops others; new ones everywhere else.
    derandomize="CI" in os.environ,
    # Each example rolls back what it wrote, so the fixtures stay as they were.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

KEY = "5c0ffee0-0000-4000-8000-00000000beef"
MODELS = [
    (model._meta.app_label, model._meta.model_name)
    for model in apps.get_models(include_auto_created=True)
]

numbers = st.one_of(st.integers(), st.floats(), st.decimals())
moments = st.one_of(
    st.datetimes(timezones=st.none() | st.timezones()), st.dates(), st.times(), st.timedeltas()
)
json_keys = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
names = (
    st.sampled_from(MODELS)
    | st.tuples(st.just("app"), st.sampled_from(["article", "slug", "line", "uuid"]))
    | st.tuples(st.text(), st.text())
)
keys = st.one_of(
    st.sampled_from(["1", "a", KEY, "[1, 1]"]),
    st.text(),
    st.uuids().map(str),
    numbers.map(str),
    moments.map(str),
    json_keys.map(json.dumps),
    st.integers(min_value=10**18).map(str),
)
texts = st.text(st.characters(max_codepoint=255))
tokens = st.none() | st.text(min_size=1)
headers = st.fixed_dictionaries(
    {},
    optional={
        "X-Lock-Token": texts | st.lists(texts, min_size=90, max_size=110).map(",".join),
        "Accept": texts | st.sampled_from(["*/*", "text/html;q=x", "application/json"]),
        "X-CSRFToken": texts,
        "Cookie": texts,
        "Content-Encoding": texts,
        "X-Requested-With": texts,
    },
)
methods = st.sampled_from(["GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS", "get", "Ü"])
bodies = st.binary(max_size=200)
content_types = texts | st.sampled_from(
    [
        "application/json",
        "application/x-www-form-urlencoded",
        "application/x-www-form-urlencoded; charset=utf-16",
        "multipart/form-data",
        "multipart/form-data; boundary=x",
        "multipart/form-data; boundary=\xff",
    ]
)


@pytest.fixture(autouse=True)
def rows(settings):
    settings.LOCK_TOKENS = {
        "API_MODELS": "__all__",
        "API_PERMISSION": "lock_tokens.permissions.is_authenticated",
    }
    return [
        Article.objects.create(pk=1, title="a"),
        Slug.objects.create(slug="a"),
        Line.objects.create(order=1, number=1),
        Uuid.objects.create(id=KEY, name="a"),
    ]


@pytest.fixture(params=["anonymous", "user"])
def cookies(request):
    """Return the cookies of somebody who may lock nothing, and of somebody who may lock all."""
    client = Client()
    if request.param == "user":
        client.force_login(User.objects.create_superuser("root"))
    return client.cookies


def send(cookies, checks_csrf, method, path, body, content_type, headers):
    """Send a request as a server would hand it over; the client raises what a view raises."""
    client = Client(enforce_csrf_checks=checks_csrf, raise_request_exception=True)
    client.cookies = cookies.copy()
    with transaction.atomic():
        response = client.generic(method, path, body, content_type, headers=headers)
        # The view left the transaction usable.
        LockToken.objects.exists()
        transaction.set_rollback(True)
    assert response.status_code < 500
    return response


def url(*parts):
    return "/lock_tokens/" + "".join(f"{percent(part, safe='')}/" for part in parts)


@bounded
@given(names, keys, tokens, st.booleans(), methods, headers, bodies, content_types)
def test_no_request_of_the_api_fails(
    cookies, rows, name, key, token, checks_csrf, method, headers, body, content_type
):
    path = url(*name, key) if token is None else url(*name, key, token)
    send(cookies, checks_csrf, method, path, body, content_type, headers)


@bounded
@given(st.binary(max_size=50), st.booleans(), methods, headers, bodies, content_types)
def test_no_path_fails(cookies, rows, tail, checks_csrf, method, headers, body, content_type):
    path = "/lock_tokens/" + percent(tail, safe="/")
    send(cookies, checks_csrf, method, path, body, content_type, headers)


@bounded
@given(st.sampled_from(range(4)), st.sampled_from(["GET", "PATCH", "DELETE"]), tokens, headers)
def test_no_token_but_the_right_one_is_accepted(cookies, rows, row, method, token, headers):
    target = target_of(rows[row])
    held = locking.read(target) or locking.acquire(target)
    names = [target.model._meta.app_label, target.model._meta.model_name, target.key]
    response = send(cookies, False, method, url(*names, token or "-"), b"", "", headers)
    assert response.status_code in (403, 404)
    assert locking.read(target) == held


@pytest.mark.parametrize("cookies", ["user"], indirect=True)
@bounded
@given(st.sampled_from(range(4)), st.sampled_from(["GET", "PATCH", "DELETE"]), texts)
def test_the_right_token_is_accepted_whatever_stands_beside_it(cookies, rows, row, method, beside):
    target = target_of(rows[row])
    held = locking.read(target) or locking.acquire(target)
    names = [target.model._meta.app_label, target.model._meta.model_name, target.key]
    header = f"{held.token},{beside}"
    if header.count(",") > 99:
        return
    response = send(cookies, False, method, url(*names), b"", "", {"X-Lock-Token": header})
    assert response.status_code in (200, 204)
