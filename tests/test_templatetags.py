"""{% lock_token_field %}: the hidden field that presents a token with a form."""

import pytest
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.core.exceptions import ImproperlyConfigured
from django.template import Context, RequestContext, Template
from django.test import RequestFactory
from django.utils.html import escape

from lock_tokens.sessions import get_session_key, lock_for_session
from tests.app.models import Article, Line, Slug

pytestmark = pytest.mark.django_db

FIELD = Template("{% load lock_tokens_tags %}{% lock_token_field article %}")
HOSTILE = "\"'><script>"
EMPTY = '<input type="hidden" name="lock_token" value="">'
MINE = "a" * 32
OLD = "b" * 32


def with_session(request):
    request.session = SessionStore()
    return request


@pytest.fixture
def request_(rf):
    return with_session(rf.get("/"))


@pytest.fixture
def article():
    return Article.objects.create(title="a")


def render(request, obj):
    return FIELD.render(RequestContext(request, {"article": obj}))


def hidden(value, name="lock_token"):
    return f'<input type="hidden" name="{name}" value="{value}">'


def post(article, session_token, *sent, content_type=None):
    """Return a POST of a form with the fields ``sent``, in a session with ``session_token``."""
    data = {"lock_token": list(sent)}
    options = {"content_type": content_type} if content_type else {}
    request = with_session(RequestFactory().post("/", data, **options))
    if session_token:
        request.session[get_session_key(article)] = session_token
    return request


@pytest.mark.parametrize(
    "make",
    [
        lambda: Article.objects.create(title="a"),
        lambda: Slug.objects.create(slug=HOSTILE),
        lambda: Line.objects.create(order=1, number=2),
    ],
)
def test_it_presents_the_token_of_the_session(request_, make):
    obj = make()
    token = lock_for_session(obj, request_.session)["token"]
    assert render(request_, obj) == hidden(token)


def test_the_token_of_another_object_is_not_presented(request_, article):
    lock_for_session(Article.objects.create(title="b"), request_.session)
    assert render(request_, article) == EMPTY


def test_a_form_made_without_a_lock_says_so_with_an_empty_field(request_, article):
    """Not without a field: then the session would speak for it, which may lock the object later."""
    assert render(request_, article) == EMPTY


def test_a_form_that_creates_an_object_has_an_empty_field(request_):
    assert render(request_, Article()) == EMPTY


def test_the_name_of_the_field_is_a_setting(request_, article, settings):
    settings.LOCK_TOKENS = {"TOKEN_FIELD": "key"}
    token = lock_for_session(article, request_.session)["token"]
    assert render(request_, article) == hidden(token, name="key")


def test_name_and_value_are_escaped(article, settings):
    settings.LOCK_TOKENS = {"TOKEN_FIELD": HOSTILE}
    request = with_session(RequestFactory().post("/", {HOSTILE: HOSTILE}))
    assert render(request, article) == hidden(escape(HOSTILE), name=escape(HOSTILE))


@pytest.mark.parametrize(
    ("session_token", "sent", "shown"),
    [
        (MINE, [MINE], MINE),
        (MINE, [f" {MINE} "], MINE),
        (MINE, [OLD], OLD),
        (MINE, [""], ""),
        (None, [OLD], OLD),
        (None, [""], ""),
        (MINE, [OLD, MINE], MINE),
        (MINE, [OLD, "c" * 32], ""),
        (MINE, [], MINE),
    ],
)
def test_a_form_that_is_shown_again_keeps_the_token_it_was_sent_with(
    article, session_token, sent, shown
):
    assert render(post(article, session_token, *sent), article) == hidden(shown)


def test_what_is_no_form_brings_no_field(article):
    request = post(article, MINE, OLD, content_type="application/json")
    assert render(request, article) == hidden(MINE)


@pytest.mark.parametrize("value", [5, None, ["a"], {}])
def test_a_session_with_something_else_in_its_place_has_no_token(request_, article, value):
    request_.session[get_session_key(article)] = value
    assert render(request_, article) == EMPTY


@pytest.mark.parametrize("context", [{}, {"request": None}, {"request": "the request"}])
def test_without_the_request_it_says_what_is_missing(article, context):
    with pytest.raises(ImproperlyConfigured) as caught:
        FIELD.render(Context({"article": article, **context}))
    assert str(caught.value) == (
        "{% lock_token_field %} needs the request in its context: render the template with the "
        "request and the context processor django.template.context_processors.request."
    )


def test_without_a_session_it_says_what_is_missing(rf, article):
    with pytest.raises(ImproperlyConfigured) as caught:
        render(rf.get("/"), article)
    assert str(caught.value) == (
        "{% lock_token_field %} renders the token in the session: add "
        "django.contrib.sessions.middleware.SessionMiddleware to MIDDLEWARE."
    )


@pytest.mark.parametrize("value", ["", None, 5])
def test_something_that_is_no_object_is_told(request_, value):
    """A misspelt variable is an empty string to a template."""
    with pytest.raises(TypeError) as caught:
        render(request_, value)
    assert (
        str(caught.value) == f"{{% lock_token_field %}} needs an object of a model, not {value!r}."
    )
