"""The template tags: a token's hidden field, the status of locks, and the JavaScript client."""

import django
import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.core.exceptions import ImproperlyConfigured
from django.core.paginator import Paginator
from django.db import connection
from django.http import HttpResponse
from django.middleware.csrf import get_token
from django.template import Context, Engine, RequestContext, Template, TemplateSyntaxError
from django.test import RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import include, path
from django.utils import timezone, translation
from django.utils.functional import SimpleLazyObject
from django.utils.html import escape
from freezegun import freeze_time

from lock_tokens.models import LockableModel, LockToken
from lock_tokens.sessions import get_session_key, lock_for_session
from tests.app.models import Article, Bistro, Line, Place, Restaurant, Section, Slug, Story

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


# {% lock_status %}

NOON = "2026-11-22 12:00:00"
UNTIL = (
    'until <time datetime="2026-11-22T13:00:00+00:00" data-lock-tokens-time>1 p.m.</time></span>'
)


@pytest.fixture
def noon():
    # Asked for once a process, and remembered.
    ContentType.objects.get_for_model(Article)
    with freeze_time(NOON) as clock:
        yield clock


@pytest.fixture
def alice():
    return User.objects.create_user("alice")


@pytest.fixture
def reader(request_):
    """The request of somebody who is logged in."""
    request_.user = User(pk=10**6, username="reader")
    return request_


def status(text, request=None, **values):
    """Render ``text`` for ``request``."""
    text = "{% load lock_tokens_tags %}" + text
    return Template(text).render(Context({"request": request, **values}))


def stored(obj, request=None):
    """Return what the tag stores for ``obj``."""
    context = Context({"request": request, "obj": obj})
    Template("{% load lock_tokens_tags %}{% lock_status obj as lock %}").render(context)
    return context["lock"]


def test_it_says_who_and_until_when(noon, reader, article, alice):
    LockableModel.lock(article, by=alice)
    expected = f'<span class="lock-tokens-status">Locked by alice {UNTIL}'
    assert status("{% lock_status obj %}", reader, obj=article) == expected


def test_it_says_so_when_the_lock_is_the_readers_own(noon, reader, article):
    lock_for_session(article, reader.session)
    expected = f'<span class="lock-tokens-status">Locked by you {UNTIL}'
    assert status("{% lock_status obj %}", reader, obj=article) == expected


@pytest.mark.parametrize("make", [lambda request: None, lambda request: request])
def test_who_is_not_logged_in_learns_no_name(noon, request_, article, alice, make):
    """With a request of nobody or of an anonymous user, and without any."""
    LockableModel.lock(article, by=alice)
    request_.user = AnonymousUser()
    expected = f'<span class="lock-tokens-status">Locked {UNTIL}'
    assert status("{% lock_status obj %}", make(request_), obj=article) == expected


@pytest.mark.parametrize(
    ("shown", "to_reader", "to_anybody"),
    [(True, "alice", "alice"), ("authenticated", "alice", None), (False, None, None)],
)
def test_show_holder_says_who_is_told(
    noon, reader, article, alice, settings, shown, to_reader, to_anybody
):
    settings.LOCK_TOKENS = {"SHOW_HOLDER": shown}
    LockableModel.lock(article, by=alice)
    assert stored(article, reader).by == to_reader
    assert stored(article).by == to_anybody


def test_names_are_escaped(noon, reader, article):
    LockableModel.lock(article, by=User.objects.create(username=HOSTILE))
    page = status("{% lock_status obj %}", reader, obj=article)
    assert f"Locked by {escape(HOSTILE)} until" in page


def test_it_renders_nothing_while_the_object_is_free(noon, reader, article, alice):
    assert status("{% lock_status obj %}", reader, obj=article) == ""
    LockableModel.lock(article, by=alice, timeout=60)
    noon.tick(60)
    assert status("{% lock_status obj %}", reader, obj=article) == ""


def test_the_end_is_told_in_the_readers_time_zone_and_language(noon, article):
    LockableModel.lock(article)
    with timezone.override("Asia/Tokyo"), translation.override("de"):
        page = status("{% lock_status obj %}", obj=article)
    assert '<time datetime="2026-11-22T22:00:00+09:00" data-lock-tokens-time>22:00</time>' in page


def test_the_end_on_another_day_is_told_with_its_date(noon, article):
    LockableModel.lock(article, timeout=86400)
    assert ">Nov. 23, 2026, noon</time>" in status("{% lock_status obj %}", obj=article)


def test_a_stored_status_renders_nothing_and_has_the_facts(noon, reader, article, alice):
    token = LockableModel.lock(article, by=alice)["token"]
    noon.tick(600)
    LockableModel.lock(article, token)
    text = (
        "{% lock_status obj as lock %}{{ lock.is_locked }} {{ lock.by }} {{ lock.since|date:'c' }}"
        " {{ lock.until|date:'c' }} {{ lock.seconds }} {{ lock.mine }}"
    )
    assert status(text, reader, obj=article) == (
        "True alice 2026-11-22T12:00:00+00:00 2026-11-22T13:10:00+00:00 3600.0 False"
    )


def test_a_free_object_has_a_status_too(noon, article):
    text = (
        "{% lock_status obj as lock %}{{ lock.is_locked }} {{ lock.by }} {{ lock.since }} "
        "{{ lock.until }} {{ lock.seconds }} {{ lock.mine }}"
    )
    assert status(text, obj=article) == "False None None None 0.0 False"


def test_an_expired_lock_that_nobody_took_is_still_the_sessions(noon, reader, article):
    lock_for_session(article, reader.session, timeout=60)
    noon.tick(60)
    lock = stored(article, reader)
    assert (lock.is_locked, lock.mine) == (False, True)


def test_a_lock_that_somebody_took_over_is_not_the_sessions_any_more(noon, reader, article):
    lock_for_session(article, reader.session, timeout=60)
    noon.tick(60)
    LockableModel.lock(article)
    lock = stored(article, reader)
    assert (lock.is_locked, lock.mine) == (True, False)


def test_a_status_never_shows_the_token(noon, reader, article, alice):
    token = lock_for_session(article, reader.session)["token"]
    lock = stored(article, reader)
    attributes = {name: getattr(lock, name) for name in dir(lock)}
    assert lock.mine
    assert token not in f"{lock!r} {lock} {attributes!r} {vars(lock)!r}"
    text = "{% lock_status obj %}{% lock_status obj as x %}{{ x }}"
    assert token not in status(text, reader, obj=article)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Slug.objects.create(slug=HOSTILE),
        lambda: Line.objects.create(order=1, number=2),
        lambda: SimpleLazyObject(lambda: Article.objects.create(title="a")),
    ],
)
def test_objects_of_every_shape_have_a_status(noon, make):
    obj = make()
    assert not stored(obj).is_locked
    LockableModel.lock(getattr(obj, "_wrapped", obj))
    assert stored(obj).is_locked


def test_a_child_and_its_parent_have_the_same_status(noon):
    bistro = Bistro.objects.create(name="a")
    LockableModel.lock(bistro)
    for model in (Place, Restaurant, Bistro):
        assert stored(model.objects.get()).is_locked


@pytest.mark.parametrize("make", [Article, lambda: Slug(slug="a"), lambda: Slug(slug="x" * 300)])
def test_an_unsaved_object_is_free_and_costs_nothing(noon, make, assert_statements):
    with assert_statements(0):
        assert not stored(make()).is_locked


@pytest.mark.parametrize("value", ["", None, 5])
def test_a_status_of_something_that_is_no_object_is_told(value):
    with pytest.raises(TypeError) as caught:
        status("{% lock_status obj %}", obj=value)
    assert str(caught.value) == f"{{% lock_status %}} needs an object of a model, not {value!r}."


@pytest.mark.parametrize("words", ["", "a b", "a as", "a is b", "a as b c"])
def test_a_misspelt_lock_status_is_told(words):
    with pytest.raises(TemplateSyntaxError) as caught:
        status(f"{{% lock_status {words} %}}")
    assert str(caught.value) == (
        'lock_status takes an object, and may be followed by "as" and the name of a variable.'
    )


# How many statements a page of them costs

PARTS = {
    "base.html": "{% block body %}{% endblock %}",
    "row.html": "{% load lock_tokens_tags %}{% lock_status a as l %}{{ l.by|default:'-' }} ",
    "loop.html": "{% for a in rows %}{% include 'row.html' %}{% endfor %}",
    "only.html": "{% for a in rows %}{% include 'row.html' with a=a only %}{% endfor %}",
    "child.html": (
        "{% extends 'base.html' %}{% load lock_tokens_tags %}{% block body %}"
        "{% for a in rows %}{% lock_status a as l %}{{ l.by|default:'-' }} {% endfor %}"
        "{% endblock %}"
    ),
    "nested.html": (
        "{% extends 'base.html' %}{% block body %}{% include 'loop.html' %}{% endblock %}"
    ),
    "twice.html": "{% include 'loop.html' %}{% include 'loop.html' %}",
}
NAMES = ["loop", "only", "child", "nested", "twice"]
ROW = "{% lock_status a as l %}{{ l.by|default:'-' }} "
LOOP = "{% for a in rows %}" + ROW + "{% endfor %}"


@pytest.fixture
def rows(noon, alice):
    """Two locked articles and a free one."""
    found = [Article.objects.create(title=title) for title in "abc"]
    for each in found[:2]:
        LockableModel.lock(each, by=alice)
    return found


COLLECTIONS = {
    "queryset": lambda rows: Article.objects.order_by("pk"),
    "list": lambda rows: rows,
    "tuple": tuple,
    "page": lambda rows: Paginator(Article.objects.order_by("pk"), 3).page(1),
}


@pytest.mark.parametrize("name", COLLECTIONS)
def test_the_objects_of_a_list_cost_one_statement(reader, rows, name, assert_statements):
    collection = COLLECTIONS[name](rows)
    list(collection)
    with assert_statements(1):
        assert status(LOOP, reader, rows=collection) == "alice alice - "


def test_a_queryset_that_the_loop_evaluates_costs_one_statement_more(
    reader, rows, assert_statements
):
    with assert_statements(2):
        assert status(LOOP, reader, rows=Article.objects.order_by("pk")) == "alice alice - "


@pytest.mark.parametrize(
    ("text", "wrap"),
    [
        (
            "{% for row in rows %}{% with a=row.obj %}" + ROW + "{% endwith %}{% endfor %}",
            lambda rows: [{"obj": each} for each in rows],
        ),
        ("{% for n, a in rows %}" + ROW + "{% endfor %}", lambda rows: list(enumerate(rows))),
        (
            "{% for some in rows %}{% for a in some %}" + ROW + "{% endfor %}{% endfor %}",
            lambda rows: [rows[:1], rows[1:]],
        ),
        ("{% for a in rows.news %}" + ROW + "{% endfor %}", lambda rows: {"news": rows}),
        ("{% for a in rows|dictsort:'title' %}" + ROW + "{% endfor %}", list),
        (
            "{% regroup rows by view_count as groups %}{% for g in groups %}{% for a in g.list %}"
            + ROW
            + "{% endfor %}{% endfor %}",
            list,
        ),
    ],
)
def test_objects_inside_rows_and_groups_cost_one_statement(
    reader, rows, text, wrap, assert_statements
):
    with assert_statements(1):
        assert status(text, reader, rows=wrap(rows)) == "alice alice - "


def test_prefetched_objects_cost_one_statement(reader, noon, alice, assert_statements):
    for name in "ab":
        section = Section.objects.create(name=name)
        for number in "12":
            LockableModel.lock(Story.objects.create(slug=name + number, section=section), by=alice)
    sections = list(Section.objects.prefetch_related("story_set"))
    loop = "{% for a in s.story_set.all %}" + ROW + "{% endfor %}"
    text = "{% for s in sections %}" + loop + "{% endfor %}"
    ContentType.objects.get_for_model(Story)
    with assert_statements(1):
        assert status(text, reader, sections=sections) == "alice " * 4


@pytest.mark.parametrize("name", [f"{name}.html" for name in NAMES])
def test_includes_and_parents_share_what_was_read(reader, rows, name, assert_statements):
    libraries = {"lock_tokens_tags": "lock_tokens.templatetags.lock_tokens_tags"}
    loader = ("django.template.loaders.locmem.Loader", PARTS)
    page = Engine(loaders=[loader], libraries=libraries).get_template(name)
    isolated = name == "only.html"
    with assert_statements(3 if isolated else 1):
        shown = page.render(Context({"request": reader, "rows": rows}))
    names = "- - - " if isolated else "alice alice - "
    assert shown == names * (2 if name == "twice.html" else 1)


def test_objects_outside_of_lists_cost_one_statement_each(reader, rows, assert_statements):
    text = "{% lock_status a %}{% lock_status b %}{% lock_status a %}{% lock_status c as l %}"
    with assert_statements(3):
        status(text, reader, a=rows[0], b=rows[1], c=rows[2], others=[], word="abc")


def test_a_list_is_not_asked_about_for_an_object_that_is_not_in_it(reader, rows):
    """It may be the choices of a form, of which none is shown with its status."""
    with CaptureQueriesContext(connection) as captured:
        status("{% lock_status a %}", reader, a=rows[0], others=rows[1:])
    assert captured[0]["sql"].rpartition(" IN ")[2].count(",") == 0


def test_nothing_lazy_is_evaluated(noon, article, assert_statements):
    def fail():
        raise AssertionError("evaluated")

    lazy = {
        "user": SimpleLazyObject(fail),
        "others": Article.objects.all(),
        "page": Paginator(Article.objects.order_by("pk"), 2).page(1),
    }
    with assert_statements(1):
        status("{% lock_status a %}", a=article, **lazy)


def test_a_list_with_what_cannot_be_locked_in_it_is_read_all_the_same(
    reader, rows, assert_statements
):
    mixed = [Article(), *rows, None, "text", Article(pk=rows[0].pk)]
    text = "{% for a in rows %}{% if a.pk %}" + ROW + "{% endif %}{% endfor %}"
    with assert_statements(1):
        assert status(text, reader, rows=mixed) == "alice alice - - "


def test_a_very_long_list_is_read_in_parts(reader, noon, alice, monkeypatch, assert_statements):
    monkeypatch.setattr("lock_tokens.statuses.AT_ONCE", 2)
    rows = [Article.objects.create(title=title) for title in "abcde"]
    LockableModel.lock(rows[4], by=alice)
    with assert_statements(3):
        assert status(LOOP, reader, rows=rows) == "- - - - alice "


def test_another_rendering_reads_again(reader, rows):
    context = Context({"request": reader, "rows": rows})
    page = Template("{% load lock_tokens_tags %}" + LOOP)
    assert page.render(context) == "alice alice - "
    LockToken.objects.break_lock(rows[0])
    assert page.render(context) == "- alice - "


# {% lock_tokens_api_client %}

CLIENT = "{% lock_tokens_api_client %}"


def client_script(**attributes):
    return Template("{% load lock_tokens_tags %}" + CLIENT).render(Context(attributes))


def expected_script(*, url="/lock_tokens/", header="X-Lock-Token", csrf="", nonce=""):
    return (
        f'<script{csrf} data-csrf-cookie="csrftoken" data-csrf-header="X-Csrftoken" '
        f'data-header="{header}" data-url="{url}"{nonce} src="/static/lock_tokens/client.js" defer>'
        "</script>"
    )


def test_the_client_is_loaded_without_inline_script():
    assert client_script() == expected_script()


def test_the_client_is_told_the_header(settings):
    settings.LOCK_TOKENS = {"TOKEN_HEADER": "X-Key"}
    assert client_script() == expected_script(header="X-Key")


def test_the_client_is_told_the_names_of_the_csrf_cookie_and_header(settings):
    settings.CSRF_COOKIE_NAME = "sign"
    settings.CSRF_HEADER_NAME = "HTTP_X_SIGN"
    script = client_script()
    assert 'data-csrf-cookie="sign" data-csrf-header="X-Sign"' in script


class Elsewhere:
    urlpatterns = [path("my/locks/", include("lock_tokens.urls"))]


class Nowhere:
    urlpatterns = []


def test_the_client_finds_the_api_where_the_project_put_it():
    with override_settings(ROOT_URLCONF=Elsewhere):
        assert client_script() == expected_script(url="/my/locks/")


def test_without_the_api_it_says_what_is_missing():
    with override_settings(ROOT_URLCONF=Nowhere), pytest.raises(ImproperlyConfigured) as caught:
        client_script()
    assert str(caught.value) == (
        "{% lock_tokens_api_client %} needs the REST API: add "
        'path("lock_tokens/", include("lock_tokens.urls")) to the URLs.'
    )


def test_the_client_gets_the_csrf_token_of_the_page(rf):
    request = rf.get("/")
    page = Template("{% load lock_tokens_tags %}" + CLIENT).render(RequestContext(request))
    token = page.partition('data-csrf="')[2].partition('"')[0]
    assert len(token) == len(get_token(request)) == 64
    assert page == expected_script(csrf=f' data-csrf="{token}"')
    assert client_script(csrf_token="NOTPROVIDED") == expected_script()


def test_the_script_carries_the_nonce_of_the_content_security_policy(rf):
    request = rf.get("/")
    request.csp_nonce = "of the request"
    for context in ({"csp_nonce": "n<"}, {"csp_nonce": "n<", "request": request}):
        assert client_script(**context) == expected_script(nonce=' nonce="n&lt;"')
    assert client_script(request=request) == expected_script(nonce=' nonce="of the request"')
    assert client_script(csp_nonce=None) == expected_script()


def test_a_strict_policy_lets_the_script_in(rf, settings):
    from django.middleware.csp import ContentSecurityPolicyMiddleware
    from django.template.context_processors import csp
    from django.utils.csp import CSP

    settings.SECURE_CSP = {"script-src": [CSP.NONCE]}

    def view(request):
        page = Template("{% load lock_tokens_tags %}" + CLIENT)
        return HttpResponse(page.render(Context({"request": request, **csp(request)})))

    response = ContentSecurityPolicyMiddleware(view)(rf.get("/"))
    nonce = response.headers["Content-Security-Policy"].partition("'nonce-")[2].rstrip("'")
    assert nonce
    assert f'nonce="{nonce}"' in response.content.decode()


# Django has this middleware since 6.0.
if django.VERSION < (6, 0):
    del test_a_strict_policy_lets_the_script_in
