"""A lock's life over HTTP: a server, several clients, and the same model.

The examples are the same in every run. So many new ones are tried, and one that fails is cut down
to what it takes, by::

    LOCK_LIFE_EXAMPLES=1500 pytest -o faulthandler_timeout=0 tests/test_lock_life_rest.py
"""

import json
import math
from datetime import timedelta
from functools import partial
from http.client import HTTPConnection
from typing import Any, NamedTuple
from urllib.parse import quote as percent

import pytest
from django.contrib.admin.utils import quote
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.servers.basehttp import WSGIRequestHandler
from django.db import connection
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.test.testcases import LiveServerThread
from django.urls import include, path
from hypothesis import strategies as st
from hypothesis.stateful import rule

from lock_tokens import locking, responses, views
from lock_tokens.tokens import RequestTokens, Tokens
from tests.lock_life import (
    HOLDERS,
    THINGS,
    LockLife,
    holders,
    leaves_the_lock_of_what_is_deleted,
    live,
    live_until_it_fails,
    names,
    picks,
    releases_with_any_token,
    takes_what_has_not_expired,
    world,
)

pytestmark = pytest.mark.django_db(transaction=True)

STATUSES = {"ObjectLocked": 423, "LockRequired": 428, "StaleToken": 412}
CSRF = "c" * 32


def write(request, name):
    """Write or delete as a view of a project would, which knows nothing of locks."""
    thing = THINGS[name]
    obj = get_object_or_404(thing.model, **thing.key)
    if request.method == "DELETE":
        obj.delete()
    else:
        setattr(obj, thing.field, request.body.decode())
        obj.save()
    return HttpResponse("done")


urlpatterns = [
    path("lock_tokens/", include("lock_tokens.urls")),
    path("things/<str:name>/", write),
]


class Answer(NamedTuple):
    status: int
    headers: Any
    text: str

    @property
    def json(self):
        return json.loads(self.text)


def as_bytes(token):
    return token.encode("utf-8", "surrogatepass")


class RestLife(LockLife):
    def __init__(self, clock, address):
        self.clients = {holder: HTTPConnection(address, timeout=30) for holder in HOLDERS}
        super().__init__(clock)

    def teardown(self):
        for client in self.clients.values():
            client.close()

    def ask(self, holder, method, url, presented=None, body=None):
        """Send a request as ``holder``, and check what is so in every answer."""
        headers = {"Accept": "application/json", "Content-Type": "text/plain"}
        headers |= {"Cookie": f"csrftoken={CSRF}", "X-CSRFToken": CSRF}
        if presented is not None:
            headers["X-Lock-Token"] = as_bytes(presented)
        client = self.clients[holder]
        client.request(method, url, body, headers)
        response = client.getresponse()
        answer = Answer(response.status, response.headers, response.read().decode())
        assert answer.status < 500
        if answer.status not in (200, 201):
            assert not any(token in answer.text for name in THINGS for token in self.got(name))
        if url.startswith("/lock_tokens/") or answer.status in STATUSES.values():
            assert answer.headers["Cache-Control"] == "no-store"
        return answer

    def url(self, name, *, proxy=False):
        thing = THINGS[name]
        model = "articleproxy" if proxy and name == "article" else thing.model._meta.model_name
        return f"/lock_tokens/app/{model}/{percent(quote(thing.text))}/"

    def header(self, name, holder, presented):
        """Return the value of the header and the tokens that it has."""
        value = ", ".join(self.token(name, holder, pick) for pick in presented)
        return value, [token.strip() for token in value.split(",") if token.strip()]

    def check_lease(self, answer, name, status):
        """Check the answer to the holder of the lock, at the clock's time."""
        left = self.locks[name].expires_at - self.clock()
        assert answer.status == status
        assert answer.json == self.serialized(name)
        assert answer.headers["Timeout"] == f"Second-{max(0, left // timedelta(seconds=1))}"

    def check_problem(self, answer, status, kind=None):
        assert answer.status == status
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json["status"] == status
        assert answer.json.get("type") == (kind and f"urn:django-lock-tokens:{kind}")

    def facts(self, name):
        row = self.locks[name]
        return {
            "since": self.created[name].isoformat(),
            "until": row.expires_at.isoformat(),
            "by": None,
        }

    @rule(name=names, holder=holders, proxy=st.booleans())
    def lock(self, name, holder, proxy):
        with self.step("autocommit", holder) as now:
            answer = self.ask(holder, "POST", self.url(name, proxy=proxy))
            if name not in self.contents:
                self.check_problem(answer, 404)
            elif self.locks.is_live(name, now):
                self.check_problem(answer, 403, "AlreadyLockedError")
                assert answer.json["lock"] == self.facts(name)
            else:
                assert answer.status == 201
                self.granted(name, holder, answer.json["token"], None)
                self.check_lease(answer, name, 201)

    @rule(
        name=names,
        holder=holders,
        presented=st.lists(picks, max_size=3),
        in_url=st.booleans(),
        method=st.sampled_from(["GET", "PATCH", "DELETE"]),
        proxy=st.booleans(),
    )
    def use(self, name, holder, presented, in_url, method, proxy):
        """Ask, renew or release, with a token in the URL, tokens in the header or none."""
        with self.step("autocommit", holder) as now:
            url = self.url(name, proxy=proxy)
            header, tokens = self.header(name, holder, presented)
            if in_url and presented:
                tokens = [self.token(name, holder, presented[0])]
                answer = self.ask(holder, method, self.url_with(url, tokens[0]))
            else:
                answer = self.ask(holder, method, url, header if presented else None)
            if method == "GET" and not presented:
                self._check_status(answer, name, now)
            else:
                self._check_use(answer, name, method, tokens)

    def url_with(self, url, token):
        return f"{url}{percent(as_bytes(token), safe='')}/"

    def _check_status(self, answer, name, now):
        if name not in self.contents:
            self.check_problem(answer, 404)
            return
        is_live = self.locks.is_live(name, now)
        expires = self.serialized(name)["expires"] if is_live else None
        assert answer.status == 200
        assert answer.json == {"locked": is_live, "expires": expires, "locked_by": None}

    def _check_use(self, answer, name, method, tokens):
        if name not in self.contents or name not in self.locks:
            self.check_problem(answer, 404)
        elif not any(self.locks.is_valid(name, token) for token in tokens):
            self.check_problem(answer, 403)
        elif method == "DELETE":
            assert (answer.status, answer.text) == (204, "")
            del self.locks[name]
        else:
            if method == "PATCH":
                self.renewed(name)
            self.check_lease(answer, name, 200)

    @rule(
        name=names,
        holder=holders,
        presented=st.lists(picks, max_size=3),
        method=st.sampled_from(["PUT", "PUT", "PUT", "DELETE"]),
    )
    def write(self, name, holder, presented, method):
        value = self.new_value()
        with self.step("autocommit", holder) as now:
            header, tokens = self.header(name, holder, presented) if presented else (None, [])
            answer = self.ask(holder, method, f"/things/{name}/", header, value)
            if name not in self.contents:
                assert answer.status == 404
            elif refusal := self.refusal(name, tokens, now):
                self.check_problem(answer, STATUSES[refusal], refusal)
                assert answer.json["object"] == {
                    "model": THINGS[name].label,
                    "pk": str(THINGS[name].pk),
                }
                self._check_retry(answer, name, now)
            else:
                assert (answer.status, answer.text) == (200, "done")
                if method == "DELETE":
                    self.forget(name)
                else:
                    self.wrote(name, value, now)

    def _check_retry(self, answer, name, now):
        if answer.status == 423:
            left = self.locks[name].expires_at - now
            assert answer.headers["Retry-After"] == str(math.ceil(left / timedelta(seconds=1)))
            assert answer.json["lock"] == self.facts(name)
        else:
            assert "Retry-After" not in answer.headers
            assert "lock" not in answer.json

    @rule(
        name=names,
        holder=holders,
        pick=picks,
        method=st.sampled_from(["POST", "PUT", "OPTIONS", "HEAD", "TRACE"]),
        in_url=st.booleans(),
    )
    def use_a_method_that_does_nothing(self, name, holder, pick, method, in_url):
        with self.step("autocommit", holder):
            url, token = self.url(name), self.token(name, holder, pick)
            if in_url or method == "POST":
                answer = self.ask(holder, method, self.url_with(url, token), body="{")
            else:
                answer = self.ask(holder, method, url, token, body="{")
            if method not in ("OPTIONS", "HEAD"):
                assert answer.status == 405

    @rule(name=names, holder=holders, method=st.sampled_from(["GET", "PATCH", "PUT"]))
    def bring_too_many_tokens(self, name, holder, method):
        url = f"/things/{name}/" if method == "PUT" else self.url(name)
        with self.step("autocommit", holder):
            token = self.token(name, holder, ("valid", 0))
            answer = self.ask(holder, method, url, ",".join([token] * 101), "x")
            looks_first = method == "PUT" and name not in self.contents
            assert answer.status == (404 if looks_first else 400)


@pytest.fixture(scope="module")
def address(django_db_setup):
    """Start a server, which ``live_server`` would do before there is the test database."""
    server = LiveServerThread("127.0.0.1", StaticFilesHandler)
    server.daemon = True
    with pytest.MonkeyPatch.context() as patch:
        # The body of an answer is not to wait until its head is acknowledged.
        patch.setattr(WSGIRequestHandler, "disable_nagle_algorithm", True)
        server.start()
        server.is_ready.wait()
        assert server.error is None
        yield f"{server.host}:{server.port}"
        server.terminate()


@pytest.fixture
def life(monkeypatch, settings, address):
    """Return what makes a machine in a world of its own, with a server in it."""
    settings.ROOT_URLCONF = __name__
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    # A client's thread in the server keeps its connection to the database.
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", None)
    with world(monkeypatch, settings) as clock:
        yield partial(RestLife, clock, address)


def test_a_lock_lives_over_http_as_the_model_says(life):
    live(life, examples=30, steps=60)


def shows_the_token_to_anybody(monkeypatch):
    monkeypatch.setattr(locking.Lock, "matches", lambda self, tokens: True)


def overlooks_the_header(monkeypatch):
    monkeypatch.setattr(RequestTokens, "presented_for", lambda self, target: Tokens())


def takes_keys_as_they_are_written(monkeypatch):
    monkeypatch.setattr(views, "unquote", lambda text: text)


def counts_from_the_wrong_end(monkeypatch):
    monkeypatch.setattr(views, "timeout_header", lambda lease: f"Second-{lease.timeout}")


def lets_refusals_be_cached(monkeypatch):
    monkeypatch.setattr(responses, "finish", lambda response, error: None)


@pytest.mark.parametrize(
    "mutant",
    [
        releases_with_any_token,
        takes_what_has_not_expired,
        leaves_the_lock_of_what_is_deleted,
        shows_the_token_to_anybody,
        overlooks_the_header,
        takes_keys_as_they_are_written,
        counts_from_the_wrong_end,
        lets_refusals_be_cached,
    ],
    ids=lambda mutant: mutant.__name__,
)
def test_a_package_that_keeps_one_promise_less_is_found_out(life, monkeypatch, mutant):
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        live_until_it_fails(life, examples=2000, steps=60)
