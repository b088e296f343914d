"""The tokens a request brings: where they are read, how many, and when the session may speak."""

from io import RawIOBase

import pytest
from django.core.exceptions import BadRequest
from django.http import UnreadablePostError
from django.test import RequestFactory
from django.urls import reverse

from lock_tokens import tokens
from lock_tokens.models import LockableModel
from lock_tokens.sessions import get_session_key
from lock_tokens.targets import target_of
from lock_tokens.tokens import Presented, RequestTokens, explicit_tokens, form_tokens, header_tokens

URLENCODED = "application/x-www-form-urlencoded"
OK, BAD_REQUEST, LOCKED = 200, 400, 423
TOKEN, OTHER = "1" * 32, "2" * 32


def multipart(**fields):
    return RequestFactory().post("/", fields)


def urlencoded(body):
    return RequestFactory().post("/", body, content_type=URLENCODED)


def with_header(value, **kwargs):
    return RequestFactory().post("/", headers={"X-Lock-Token": value}, **kwargs)


class Broken(RawIOBase):
    """A stream whose sender went away."""

    def read(self, *args):
        raise OSError("connection reset")


FORMS = {
    "multipart": lambda: multipart(lock_token=TOKEN),
    "urlencoded": lambda: urlencoded(f"lock_token={TOKEN}"),
}
READINGS = {
    "all of it": lambda request: request.read(),
    "a part of it": lambda request: request.read(1),
    "line by line": lambda request: list(request),
    "its first line": lambda request: request.readline(),
}


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]()


class TestHeader:
    @pytest.mark.parametrize(
        ("header", "expected"),
        [
            (TOKEN, [TOKEN]),
            (f"{TOKEN},{OTHER}", [TOKEN, OTHER]),
            (f"  {TOKEN} ,\t{OTHER} ", [TOKEN, OTHER]),
            (f",,{TOKEN}, ,", [TOKEN]),
            (f"{TOKEN} {OTHER}", [f"{TOKEN} {OTHER}"]),
            ("", []),
            (" , ", []),
        ],
    )
    def test_it_is_split_at_commas_and_blanks_do_not_count(self, header, expected):
        assert header_tokens(with_header(header)) == expected

    def test_without_it_there_are_none(self):
        assert header_tokens(RequestFactory().post("/")) == []

    def test_any_method_may_bring_it(self):
        request = RequestFactory().delete("/", headers={"X-Lock-Token": TOKEN})
        assert explicit_tokens(request) == [TOKEN]

    def test_its_name_is_a_setting(self, settings):
        settings.LOCK_TOKENS = {"TOKEN_HEADER": "If-Lock"}
        assert header_tokens(with_header(TOKEN)) == []
        assert header_tokens(RequestFactory().get("/", headers={"If-Lock": TOKEN})) == [TOKEN]


class TestFormField:
    def test_its_value_is_the_token(self, form):
        assert form_tokens(form) == [TOKEN]

    def test_every_value_counts_and_blanks_around_it_do_not(self):
        assert form_tokens(urlencoded(f"lock_token=+{TOKEN}+&lock_token=")) == [TOKEN, ""]

    def test_its_name_is_a_setting(self, form, settings):
        settings.LOCK_TOKENS = {"TOKEN_FIELD": "lock"}
        assert form_tokens(form) == []
        assert form_tokens(multipart(lock=TOKEN)) == [TOKEN]

    @pytest.mark.parametrize("name", ["body", "POST"])
    def test_what_django_has_read_already_is_read_again(self, form, name):
        assert getattr(form, name)
        assert form_tokens(form) == [TOKEN]

    @pytest.mark.parametrize(
        "request_",
        [
            RequestFactory().get("/", {"lock_token": TOKEN}),
            RequestFactory().put("/", f"lock_token={TOKEN}", content_type=URLENCODED),
            RequestFactory().post("/", {"lock_token": TOKEN}, content_type="application/json"),
        ],
        ids=["query", "put", "json"],
    )
    def test_what_is_no_form_has_none(self, request_):
        assert form_tokens(request_) == []
        assert explicit_tokens(request_) is None

    def test_a_body_that_is_no_form_is_left_to_the_view(self):
        request = RequestFactory().post("/", b"[1]", content_type="application/json")
        form_tokens(request)
        assert request.read() == b"[1]"

    @pytest.mark.parametrize(
        "make", [multipart, lambda: multipart(title="new"), lambda: urlencoded("title=new")]
    )
    @pytest.mark.parametrize("is_parsed_before", [True, False])
    def test_a_form_without_the_field_presents_nothing(self, make, is_parsed_before):
        request = make()
        if is_parsed_before:
            assert request.POST is not None
        assert form_tokens(request) == []
        assert explicit_tokens(request) is None

    @pytest.mark.parametrize("read", READINGS.values(), ids=READINGS)
    def test_of_a_form_that_was_read_by_other_means_it_is_unknown_but_explicit(self, form, read):
        read(form)
        assert form_tokens(form) == [""]
        assert explicit_tokens(form) == []

    def test_of_a_form_whose_upload_broke_off_it_is_unknown_but_explicit(self):
        """The CSRF middleware, for one, goes on after such an error if a header has its token."""
        request = multipart(lock_token=TOKEN)
        request._stream = Broken()
        with pytest.raises(UnreadablePostError):
            assert request.POST
        assert form_tokens(request) == [""]
        assert explicit_tokens(request) == []

    def test_of_an_urlencoded_form_whose_upload_broke_off_it_is_unknown_but_explicit(self):
        request = urlencoded(f"lock_token={TOKEN}")
        request._stream = Broken()
        with pytest.raises(UnreadablePostError):
            assert request.POST
        assert explicit_tokens(request) == []


class TestLimit:
    """At most 100 tokens are read, header and form together."""

    def request(self, in_header, in_form):
        header = {"X-Lock-Token": ",".join([TOKEN] * in_header)} if in_header else None
        return RequestFactory().post("/", {"lock_token": [TOKEN] * in_form}, headers=header)

    @pytest.mark.parametrize(("in_header", "in_form"), [(100, 0), (0, 100), (60, 40)])
    def test_100_are_read(self, in_header, in_form):
        assert explicit_tokens(self.request(in_header, in_form)) == [TOKEN] * 100

    @pytest.mark.parametrize(("in_header", "in_form"), [(101, 0), (0, 101), (60, 41), (1, 100)])
    def test_101_are_a_bad_request(self, in_header, in_form):
        with pytest.raises(BadRequest) as caught:
            explicit_tokens(self.request(in_header, in_form))
        assert str(caught.value) == "The request presents 101 lock tokens; 100 at most are read."

    def test_what_is_blank_does_not_count(self):
        request = with_header("," * 1000 + TOKEN, data={"lock_token": [""] * 500})
        assert explicit_tokens(request) == [TOKEN]

    @pytest.mark.django_db
    def test_over_http_it_is_a_400_and_nothing_is_written(self, client, article, lock, settings):
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"]}
        url, token = reverse("enforced:save", args=[article.pk]), lock(article)
        header = {"X-Lock-Token": ",".join([TOKEN] * 60)}

        for count, status in [(40, BAD_REQUEST), (39, OK)]:
            tokens = [token, *[TOKEN] * count]
            response = client.post(url, {"lock_token": tokens}, headers=header)
            assert response.status_code == status
            article.refresh_from_db()
            assert article.title == ("new" if status == OK else "A")


@pytest.mark.django_db
class TestSession:
    """It is asked only when the request brings no explicit token."""

    def ask(self, request, article):
        return RequestTokens(request).presented_for(target_of(article))

    def request(self, article, value=TOKEN, **kwargs):
        request = RequestFactory().post("/", **kwargs)
        request.session = {get_session_key(article): value}
        return request

    def test_its_token_is_presented_for_that_object_alone(self, article):
        request = self.request(article)
        assert self.ask(request, article) == [Presented(TOKEN, target_of(article))]
        assert self.ask(request, type(article).objects.create(title="B")) == []

    @pytest.mark.parametrize(
        ("header", "field", "expected"),
        [
            (OTHER, None, [Presented(OTHER)]),
            (None, OTHER, [Presented(OTHER)]),
            ("", None, []),
            (None, "", []),
            (OTHER, TOKEN, [Presented(OTHER), Presented(TOKEN)]),
        ],
    )
    def test_it_is_not_asked_when_something_is_explicit(self, article, header, field, expected):
        headers = None if header is None else {"X-Lock-Token": header}
        data = None if field is None else {"lock_token": field}
        assert self.ask(self.request(article, headers=headers, data=data), article) == expected

    @pytest.mark.parametrize("value", [None, 3, ["a"], {"token": TOKEN}])
    def test_what_is_no_text_in_it_is_no_token(self, article, value):
        assert self.ask(self.request(article, value), article) == []

    def test_a_request_without_sessions_presents_nothing(self, article):
        assert self.ask(RequestFactory().post("/"), article) == []

    def test_it_is_asked_again_for_each_write_as_the_view_may_lock_meanwhile(self, article):
        request = self.request(article, None)
        brought = RequestTokens(request)
        assert brought.presented_for(target_of(article)) == []
        request.session[get_session_key(article)] = TOKEN
        assert [each.token for each in brought.presented_for(target_of(article))] == [TOKEN]


def test_a_presented_token_does_not_show_in_its_repr():
    assert TOKEN not in repr(Presented(TOKEN))


@pytest.mark.django_db
class TestAFormThatTheViewReadItself:
    """Its session has the lock, but the form may be old: only the form could tell."""

    @pytest.fixture(autouse=True)
    def session_with_the_lock(self, client, article, settings):
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"]}
        session = client.session
        session[get_session_key(article)] = LockableModel.lock(article)["token"]
        session.save()
        client.cookies["sessionid"] = session.session_key

    @pytest.fixture(params=["multipart", "urlencoded", "multipart without a token"])
    def post(self, request, client, article):
        """Post a form to the view that reads the stream."""
        arguments = {
            "multipart": {"data": {"lock_token": OTHER, "title": "old"}},
            "urlencoded": {"data": f"lock_token={OTHER}", "content_type": URLENCODED},
            "multipart without a token": {"data": {"title": "old"}},
        }[request.param]
        url = reverse("enforced:body", args=[article.pk])
        return lambda: client.post(url, **arguments)

    def title_after(self, response, status, article):
        assert response.status_code == status
        article.refresh_from_db()
        return article.title

    def test_it_is_refused(self, post, article):
        assert self.title_after(post(), LOCKED, article) == "A"

    def test_without_the_protection_the_session_would_have_let_it_pass(
        self, post, article, monkeypatch
    ):
        monkeypatch.setattr(tokens, "_is_lost", lambda request: False)
        assert self.title_after(post(), OK, article) == "new"

    @pytest.mark.parametrize("name", ["save", "asave"])
    def test_a_multipart_form_without_fields_leaves_the_session_to_speak(
        self, client, article, name
    ):
        response = client.post(reverse(f"enforced:{name}", args=[article.pk]))
        assert self.title_after(response, OK, article) == "new"

    def test_a_body_that_is_no_form_leaves_the_session_to_speak(self, client, article):
        url = reverse("enforced:body", args=[article.pk])
        response = client.post(url, "{}", content_type="application/json")
        assert self.title_after(response, OK, article) == "new"
