"""The change form and the delete page, of a model that is enforced and of one that is not."""

import logging
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.admin.sites import all_sites
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.contrib.sessions.backends.db import SessionStore
from django.test import Client, override_settings
from django.urls import include, path
from freezegun import freeze_time

from lock_tokens import signals
from lock_tokens.admin import LockableModelAdmin
from lock_tokens.enforcement import locked
from lock_tokens.models import LockToken
from tests.app.models import Article, Correction, Reply, Slug, Story

site = admin.AdminSite()


class ArticleAdmin(LockableModelAdmin):
    fields = ("title", "body")
    save_as = True


site.register(Article, ArticleAdmin)
site.register(Slug, LockableModelAdmin)
site.register([Correction, Reply], LockableModelAdmin)
site.register(Story, admin.ModelAdmin)
plain = admin.AdminSite("plain")
plain.register(Article, admin.ModelAdmin)
# What a site has registered the REST API may lock, but not in the tests of other modules.
all_sites.difference_update({site, plain})

urlpatterns = [
    path("admin/", site.urls),
    path("plain/", plain.urls),
    path("lock_tokens/", include("lock_tokens.urls")),
]

NOON = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
RULES = {"enforced": {"ENFORCED_MODELS": {"app.Article": {}}}, "admin only": {}}


@pytest.fixture(autouse=True)
def urls(settings):
    settings.ROOT_URLCONF = __name__


@pytest.fixture(params=RULES, autouse=True)
def rule(request):
    """The model is enforced, or it only has the admin's mixin."""
    with override_settings(LOCK_TOKENS=RULES[request.param]):
        yield request.param


@pytest.fixture
def article(db):
    return Article.objects.create(title="Bridge", body="Old.")


def staff(name, *permissions, superuser=False):
    user = get_user_model().objects.create_user(name, is_staff=True, is_superuser=superuser)
    for label in permissions:
        app, codename = label.split(".")
        user.user_permissions.add(
            Permission.objects.get(content_type__app_label=app, codename=codename)
        )
    client = Client()
    client.force_login(user)
    client.user = user
    return client


CHANGE = ("app.change_article", "app.view_article", "app.delete_article", "app.add_article")


@pytest.fixture
def alice(db):
    return staff("alice", *CHANGE)


@pytest.fixture
def bob(db):
    return staff("bob", *CHANGE)


@pytest.fixture
def chief(db):
    return staff("chief", *CHANGE, "lock_tokens.break_lock")


def change(obj):
    return f"/admin/app/{obj._meta.model_name}/{obj.pk}/change/"


def delete(obj):
    return f"/admin/app/{obj._meta.model_name}/{obj.pk}/delete/"


def resource(obj):
    return f"/admin/app/{obj._meta.model_name}/{obj.pk}/lock/"


def lock_of(obj):
    return LockToken.objects.for_objects([obj]).get(obj)


def token_in(response):
    found = re.search(r'name="lock_token" value="(\w*)"', response.content.decode())
    return found and found[1]


def open_form(client, obj):
    """Open the change form; return its fields as a browser would send them."""
    response = client.get(change(obj))
    token = token_in(response)
    assert token
    form = response.context["adminform"].form
    fields = {name: form[name].value() or "" for name in ("title", "body")}
    return {**fields, "lock_token": token}


def stored(obj):
    obj.refresh_from_db()
    return obj.title, obj.body


def is_read_only(response):
    content = response.content.decode()
    return 'name="title"' not in content and 'name="_save"' not in content


# Opening.


def test_opening_takes_the_lock(alice, article):
    response = alice.get(change(article))
    lock = lock_of(article)
    assert lock.locked_by == alice.user
    assert token_in(response) == lock.token_str
    assert not is_read_only(response)


def test_opening_as_a_viewer_takes_none(article):
    viewer = staff("viewer", "app.view_article")
    assert is_read_only(viewer.get(change(article)))
    assert lock_of(article) is None


def test_opening_without_a_login_takes_none(client, article):
    assert client.get(change(article)).status_code == 302
    assert lock_of(article) is None


def test_a_head_request_takes_none(alice, article):
    assert alice.head(change(article)).status_code == 200
    assert lock_of(article) is None


@pytest.mark.parametrize("key", ["999", "no number", "1" * 400])
def test_an_object_that_is_not_there_is_as_in_the_plain_admin(alice, article, key):
    ours = alice.get(f"/admin/app/article/{key}/change/")
    theirs = alice.get(f"/plain/app/article/{key}/change/")
    assert ours.status_code == theirs.status_code == 302
    assert (ours["Location"], theirs["Location"]) == ("/admin/", "/plain/")


def test_the_object_is_read_after_its_lock_is_held(alice, article, monkeypatch):
    """Somebody who saves between the reading and the locking would be overwritten."""
    from lock_tokens.admin.decision import pages

    open_page = pages.open_page

    def slow(*args, **options):
        Article._base_manager.filter(pk=article.pk)._update_between()
        return open_page(*args, **options)

    def between(self):
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("UPDATE app_article SET title = 'Meanwhile'")

    from django.db.models import QuerySet

    monkeypatch.setattr(QuerySet, "_update_between", between, raising=False)
    monkeypatch.setattr(pages, "open_page", slow)
    assert b"Meanwhile" in alice.get(change(article)).content


def test_keys_of_text_work(alice, rule):
    obj = Slug.objects.create(slug="A/b c")
    root = staff("root", superuser=True)
    response = root.get("/admin/app/slug/A_2Fb%20c/change/")
    assert response.status_code == 200
    assert token_in(response) == lock_of(obj).token_str
    assert root.get("/admin/app/slug/A_2Fb%20c/lock/", headers=JSON).json()["state"] == "free"


def test_a_key_that_is_too_long_to_be_locked_cannot_be_edited(db, rule):
    Slug.objects.create(slug="é" * 300)
    root = staff("root", superuser=True)
    assert root.get(f"/admin/app/slug/{'é' * 300}/change/").status_code == 403


# Somebody else has it.


def test_another_editor_sees_a_read_only_page_that_says_who_since_and_until(alice, bob, article):
    with freeze_time(NOON):
        alice.get(change(article))
    with freeze_time(NOON + timedelta(minutes=5)), override_settings(TIME_ZONE="Asia/Tokyo"):
        response = bob.get(change(article))
    assert is_read_only(response)
    content = response.content.decode()
    assert 'name="_save"' not in content
    assert "deletelink" not in content
    message = re.sub("<[^>]*>", "", str(next(iter(response.context["messages"]))))
    assert message.strip() == (
        "alice is editing this: since Nov. 22, 2026, 9 p.m., until Nov. 22, 2026, 10 p.m. unless "
        "the lock is renewed."
    )
    assert lock_of(article).token_str not in content


@pytest.mark.parametrize("with_token", [False, True])
def test_a_forced_post_is_403(alice, bob, article, with_token):
    alice.get(change(article))
    form = {"title": "Forced", "body": "Forced."}
    if with_token:
        form["lock_token"] = "0" * 32
    response = bob.post(change(article), form)
    assert response.status_code == 403
    assert stored(article) == ("Bridge", "Old.")
    assert lock_of(article).locked_by == alice.user


def test_without_the_mixin_the_forced_post_overwrites(alice, bob, article, rule):
    """The control of the test above."""
    alice.get(change(article))
    form = {"title": "F", "body": "F", "view_count": 0}
    bob.post(f"/plain/app/article/{article.pk}/change/", form)
    assert stored(article) == (("Bridge", "Old.") if rule == "enforced" else ("F", "F"))


def test_an_expired_lock_is_taken_over_by_opening(alice, bob, article):
    with freeze_time(NOON):
        form = open_form(alice, article)
    with freeze_time(NOON + timedelta(hours=2)):
        assert not is_read_only(bob.get(change(article)))
        assert alice.post(change(article), {**form, "title": "Lost"}).status_code == 403
    assert stored(article) == ("Bridge", "Old.")


# Saving.


@pytest.mark.parametrize("button", ["_save", "_addanother"])
def test_a_save_writes_and_frees(alice, article, button):
    form = open_form(alice, article)
    response = alice.post(change(article), {**form, "title": "New", button: "1"})
    assert response.status_code == 302
    assert stored(article) == ("New", "Old.")
    assert lock_of(article) is None
    assert form["lock_token"] not in str(alice.session.items())


def test_save_and_continue_keeps_the_lock_under_a_new_token(alice, bob, article):
    form = open_form(alice, article)
    response = alice.post(change(article), {**form, "title": "New", "_continue": "1"})
    lock = lock_of(article)
    assert lock.token_str != form["lock_token"]
    assert is_read_only(bob.get(change(article)))
    assert token_in(alice.get(response["Location"])) == lock.token_str


def test_save_as_new_frees_the_original(alice, article):
    form = open_form(alice, article)
    alice.post(change(article), {**form, "title": "Copy", "_saveasnew": "1"})
    assert Article.objects.filter(title="Copy").count() == 1
    assert stored(article) == ("Bridge", "Old.")
    assert lock_of(article) is None


def test_a_popup_frees_too(alice, article):
    form = open_form(alice, article)
    response = alice.post(change(article), {**form, "title": "New", "_popup": "1"})
    assert response.status_code == 200
    assert stored(article) == ("New", "Old.")
    assert lock_of(article) is None


def test_a_validation_error_keeps_the_lock_and_the_token(alice, article):
    form = open_form(alice, article)
    response = alice.post(change(article), {**form, "title": "", "body": "Typed."})
    assert response.status_code == 200
    assert token_in(response) == form["lock_token"] == lock_of(article).token_str
    assert b"Typed." in response.content
    assert alice.post(change(article), {**form, "title": "T"}).status_code == 302


def test_a_form_whose_lock_has_expired_but_was_not_taken_is_saved(alice, article):
    with freeze_time(NOON):
        form = open_form(alice, article)
    with freeze_time(NOON + timedelta(days=1)):
        assert alice.post(change(article), {**form, "title": "New"}).status_code == 302
    assert stored(article)[0] == "New"


def test_reload_and_second_tab_share_the_lock(alice, article):
    first, second = open_form(alice, article), open_form(alice, article)
    assert first == second


def test_each_save_ends_the_token_so_the_older_tab_is_refused(alice, article):
    first, second = open_form(alice, article), open_form(alice, article)
    alice.post(change(article), {**second, "title": "Second"})
    response = alice.post(change(article), {**first, "title": "First", "body": "Typed first."})
    assert response.status_code == 200
    assert stored(article) == ("Second", "Old.")
    content = response.content.decode()
    assert "Typed first." in content
    assert "this form is older than your lock" in content


# A stale form.


@pytest.fixture
def stale(alice, bob, article):
    """The form that Alice opened before lunch; Bob has edited meanwhile."""
    with freeze_time(NOON):
        form = open_form(alice, article)
    with freeze_time(NOON + timedelta(hours=2)):
        theirs = open_form(bob, article)
        bob.post(change(article), {**theirs, "title": "Bob's"})
    return {**form, "title": "Alice's", "body": "Alice's <b>body</b>."}


def test_a_stale_form_comes_back_with_what_was_typed_and_what_is_stored(alice, article, stale):
    open_form(alice, article)
    response = alice.post(change(article), stale)
    assert response.status_code == 200
    assert stored(article) == ("Bob's", "Old.")
    form = response.context["adminform"].form
    assert (form["title"].value(), form["body"].value()) == (stale["title"], stale["body"])
    content = response.content.decode()
    cell = '<td dir="auto"[^>]*>(.*?)</td>'
    assert re.findall(f'<th scope="row">(.*?)</th>{cell}{cell}', content) == [
        ("Title", "Alice&#x27;s", "Bob&#x27;s"),
        ("Body", "Alice&#x27;s &lt;b&gt;body&lt;/b&gt;.", "Old."),
    ]


def test_a_stale_form_stays_stale_until_its_sender_has_looked(alice, article, stale):
    for _ in range(2):
        response = alice.post(change(article), stale)
        hidden = '<input type="hidden" name="lock_token" value="{}"'
        assert hidden.format(stale["lock_token"]) in response.content.decode()
        assert stored(article) == ("Bob's", "Old.")


def way_on(response):
    button = re.search(r'<button[^>]*name="lock_token" value="(\w+)"', response.content.decode())
    return button and button[1]


def test_who_has_looked_can_save(alice, article, stale):
    new = way_on(alice.post(change(article), stale))
    response = alice.post(change(article), {**stale, "lock_token": [new, stale["lock_token"]]})
    assert response.status_code == 302
    assert stored(article) == ("Alice's", "Alice's <b>body</b>.")
    assert lock_of(article) is None


def test_after_a_validation_error_the_new_token_is_the_form_s(alice, article, stale):
    new = way_on(alice.post(change(article), stale))
    tokens = {"lock_token": [new, stale["lock_token"]]}
    response = alice.post(change(article), {**stale, **tokens, "title": ""})
    assert token_in(response) == new
    assert way_on(response) is None


def test_what_changes_while_one_looks_is_not_overwritten(alice, bob, article, stale):
    with freeze_time(NOON + timedelta(hours=3)):
        new = way_on(alice.post(change(article), stale))
    with freeze_time(NOON + timedelta(hours=5)):
        theirs = open_form(bob, article)
        bob.post(change(article), {**theirs, "body": "Bob again."})
        tokens = {"lock_token": [new, stale["lock_token"]]}
        response = alice.post(change(article), {**stale, **tokens})
    assert response.status_code == 200
    assert stored(article) == ("Bob's", "Bob again.")
    assert "Bob again." in response.content.decode()


def test_an_evicted_form_keeps_what_was_typed(alice, chief, article):
    form = open_form(alice, article)
    take_over(chief, article)
    response = alice.post(change(article), {**form, "title": "Typed"})
    assert response.status_code == 403
    assert response.context["adminform"].form["title"].value() == "Typed"
    assert "chief is editing this" in response.content.decode()
    assert way_on(response) is None
    assert stored(article) == ("Bridge", "Old.")


def test_a_form_without_a_token_is_not_saved(alice, article):
    response = alice.post(change(article), {"title": "New", "body": "New."})
    assert response.status_code == 200
    assert stored(article) == ("Bridge", "Old.")
    assert way_on(response)


@pytest.mark.parametrize(
    ("worthless", "status"),
    [
        ("of another object", 403),
        ("0" * 100_000, 403),
        ("\x00", 403),
        ("é" * 32, 403),
        (["0" * 32] * 100, 403),
        (["0" * 32] * 101, 400),
    ],
    ids=["of another object", "100 kB", "NUL", "not ASCII", "100 tokens", "101 tokens"],
)
@pytest.mark.parametrize("view", [change, delete])
def test_worthless_tokens_write_nothing(alice, bob, article, worthless, status, view):
    alice.get(change(article))
    lock = lock_of(article)
    if worthless == "of another object":
        worthless = open_form(bob, Article.objects.create(title="Other"))["lock_token"]
    form = {"title": "Forced", "body": "Forced.", "post": "yes", "lock_token": worthless}
    assert bob.post(view(article), form).status_code == status
    assert stored(article) == ("Bridge", "Old.")
    assert lock_of(article) == lock


# The page's script.

JSON = {"Accept": "application/json"}


def post(client, obj, action, token, **data):
    headers = {**JSON, "X-Lock-Token": token}
    return client.post(resource(obj), {"action": action, **data}, headers=headers)


def stamp_in(response):
    return re.search(r'data-renewed="([^"]+)"', response.content.decode())[1]


def test_the_status_of_a_lock(alice, bob, article):
    assert bob.get(resource(article), headers=JSON).json()["state"] == "free"
    with freeze_time(NOON):
        alice.get(change(article))
        told = bob.get(resource(article), headers=JSON).json()
    told["csrf"] = bool(told["csrf"])
    assert told == {
        "state": "locked",
        "seconds": 3600,
        "renewed": None,
        "by": "alice",
        "since": "2026-11-22T12:00:00+00:00",
        "until": "2026-11-22T13:00:00+00:00",
        "message": "alice is editing this: since {since}, until {until} unless the lock is "
        "renewed.",
        "csrf": True,
    }


def test_a_page_renews_when_less_than_half_is_left(alice, article):
    with freeze_time(NOON):
        token = open_form(alice, article)["lock_token"]
    for minutes, left in ((20, 2400), (31, 3600)):
        with freeze_time(NOON + timedelta(minutes=minutes)):
            told = post(alice, article, "renew", token).json()
        assert (told["state"], told["seconds"]) == ("held", left)


def test_an_idle_page_does_not_renew(alice, article):
    with freeze_time(NOON):
        token = open_form(alice, article)["lock_token"]
    with freeze_time(NOON + timedelta(minutes=50)):
        assert post(alice, article, "watch", token).json()["seconds"] == 600
    with freeze_time(NOON + timedelta(minutes=70)):
        told = post(alice, article, "watch", token).json()
    assert (told["state"], told["seconds"]) == ("held", 0)


def test_leaving_frees_within_seconds(alice, bob, article):
    with freeze_time(NOON) as clock:
        page = alice.get(change(article))
        post(alice, article, "leave", token_in(page), renewed=stamp_in(page))
        clock.tick(timedelta(seconds=2))
        assert is_read_only(bob.get(change(article)))
        clock.tick(timedelta(seconds=2))
        assert not is_read_only(bob.get(change(article)))


def test_leaving_late_does_not_prolong_the_lock(alice, article):
    with freeze_time(NOON):
        page = alice.get(change(article))
    with freeze_time(NOON + timedelta(seconds=3599)):
        post(alice, article, "leave", token_in(page), renewed=stamp_in(page))
        assert lock_of(article).get_expiration_datetime() == NOON + timedelta(hours=1)


def test_who_has_left_and_comes_back_goes_on(alice, article):
    with freeze_time(NOON) as clock:
        page = alice.get(change(article))
        post(alice, article, "leave", token_in(page), renewed=stamp_in(page))
        clock.tick(timedelta(minutes=5))
        told = post(alice, article, "renew", token_in(page)).json()
    assert (told["state"], told["seconds"]) == ("held", 3600)


def test_a_reload_is_not_harmed_by_the_leaving_that_comes_after_it(alice, article):
    with freeze_time(NOON) as clock:
        page = alice.get(change(article))
        clock.tick(timedelta(seconds=1))
        alice.get(change(article))
        post(alice, article, "leave", token_in(page), renewed=stamp_in(page))
        clock.tick(timedelta(minutes=1))
        assert not lock_of(article).has_expired()


def test_a_validation_error_is_not_harmed_by_the_leaving_of_the_page_before(alice, article):
    with freeze_time(NOON) as clock:
        page = alice.get(change(article))
        clock.tick(timedelta(seconds=1))
        alice.post(change(article), {"title": "", "lock_token": token_in(page)})
        post(alice, article, "leave", token_in(page), renewed=stamp_in(page))
        clock.tick(timedelta(minutes=1))
        assert not lock_of(article).has_expired()


def test_leaving_with_a_stale_token_changes_nothing(alice, bob, article):
    with freeze_time(NOON):
        page = alice.get(change(article))
    with freeze_time(NOON + timedelta(hours=2)):
        bob.get(change(article))
        post(alice, article, "leave", token_in(page), renewed=stamp_in(page))
        assert not is_read_only(bob.get(change(article)))
        assert lock_of(article).get_expiration_datetime() == NOON + timedelta(hours=3)


def test_the_evicted_page_is_told_by_whom(alice, chief, article):
    form = open_form(alice, article)
    with freeze_time(NOON):
        take_over(chief, article)
        told = post(alice, article, "renew", form["lock_token"]).json()
    assert told["state"] == "lost"
    assert told["message"] == ("At {since} chief took the lock over. What you typed is still here.")


def test_the_older_tab_is_told_that_it_is_out_of_date(alice, article):
    form = open_form(alice, article)
    alice.post(change(article), {**form, "_continue": "1"})
    assert post(alice, article, "renew", form["lock_token"]).json()["message"] == (
        "This form is out of date: you have saved or opened it in another tab since. "
        "Nothing of what you typed here is lost, but it cannot be saved as it is."
    )


def test_the_script_of_one_who_may_not_edit_is_refused(alice, article):
    token = open_form(alice, article)["lock_token"]
    viewer = staff("viewer", "app.view_article")
    nobody = staff("nobody")
    assert post(viewer, article, "renew", token).status_code == 403
    assert viewer.get(resource(article), headers=JSON).status_code == 200
    assert nobody.get(resource(article), headers=JSON).status_code == 403
    assert alice.get("/admin/app/article/999/lock/", headers=JSON).status_code == 404
    assert alice.get("/admin/app/article/x/lock/", headers=JSON).status_code == 404


@pytest.fixture
def overtaken(alice, article):
    """A page of alice's whose token a request that ended later took from her session again."""
    other = SessionStore(alice.session.session_key)
    other["something"] = "else"
    page = alice.get(change(article))
    other.save()
    assert lock_of(article).token_str not in alice.session.values()
    return page


@pytest.mark.parametrize("action", ["renew", "watch"])
def test_a_page_brings_back_what_a_session_has_forgotten(alice, article, overtaken, action):
    assert is_read_only(alice.get(change(article)))
    post(alice, article, action, token_in(overtaken))
    assert dict(alice.session.items())["something"] == "else"
    assert not is_read_only(alice.get(change(article)))
    alice.post("/admin/logout/")
    assert lock_of(article) is None


def test_a_page_brings_back_nothing_into_the_session_of_another(alice, bob, article, overtaken):
    token = token_in(overtaken)
    for action in ("renew", "watch"):
        assert post(bob, article, action, token).json()["state"] == "held"
    assert token not in bob.session.values()


def test_a_page_that_is_left_brings_nothing_back(alice, article, overtaken):
    token = token_in(overtaken)
    post(alice, article, "leave", token, renewed=stamp_in(overtaken))
    assert token not in alice.session.values()


def test_a_stale_page_brings_nothing_back(alice, article):
    older = open_form(alice, article)
    alice.post(change(article), older)
    post(alice, article, "renew", older["lock_token"])
    assert older["lock_token"] not in alice.session.values()


def test_only_the_page_of_one_s_own_lock_is_in_a_hurry_to_know(alice, bob, article, overtaken):
    own, other = (person.get(change(article)).content.decode() for person in (alice, bob))
    assert 'data-own="true"' in own
    assert "data-own" not in other


@pytest.mark.parametrize(
    ("action", "token"), [("dance", "0" * 32), ("renew", "a, b"), ("renew", ""), ("", "0" * 32)]
)
def test_nonsense_of_a_script_is_400(alice, article, action, token):
    alice.get(change(article))
    before = lock_of(article).locked_at
    assert post(alice, article, action, token).status_code == 400
    assert lock_of(article).locked_at == before


def test_the_script_needs_the_csrf_token(article):
    client = Client(enforce_csrf_checks=True)
    client.force_login(get_user_model().objects.create_superuser("root"))
    token = token_in(client.get(change(article)))
    assert post(client, article, "renew", token).status_code == 403


def test_the_page_says_to_its_script_what_it_needs(alice, article):
    with freeze_time(NOON):
        content = alice.get(change(article)).content.decode()
    script = re.search(r'<script src="[^"]*page.js"([^>]*)>', content)[1]
    attributes = dict(re.findall(r'(data-[a-z-]+)="([^"]*)"', script))
    del attributes["data-messages"]
    csrf = {name: attributes.pop(f"data-csrf-{name}") for name in ("cookie", "header")}
    assert csrf == {"cookie": "csrftoken", "header": "X-Csrftoken"}
    token = lock_of(article).token_str
    assert attributes == {
        "data-url": resource(article),
        "data-state": "held",
        "data-token": token,
        "data-header": "X-Lock-Token",
        "data-field": "lock_token",
        "data-seconds": "3600.0",
        "data-renewed": "2026-11-22T12:00:00+00:00",
        "data-idle": "900",
    }


# Logging out.


def test_logging_out_frees_all_of_the_session_s_locks(alice, article):
    other = Article.objects.create(title="Other")
    for each in (article, other):
        alice.get(change(each))
    alice.post("/admin/logout/")
    assert not LockToken.objects.exists()


# Taking over.


def take_over(client, obj, reason="She is ill."):
    page = client.get(resource(obj))
    assert page.status_code == 200, page.status_code
    shown = page.context["form"]["lock"].value()
    data = {"action": "take_over", "reason": reason, "lock": shown}
    return client.post(resource(obj), data)


def test_with_the_permission_one_can_take_over_for_a_reason(alice, chief, article, caplog):
    heard = []
    signals.lock_broken.connect(receiver := lambda **kw: heard.append(kw), weak=False)
    form = open_form(alice, article)
    assert "Take it over" in chief.get(change(article)).content.decode()
    with caplog.at_level(logging.INFO, "lock_tokens"):
        response = take_over(chief, article)
    signals.lock_broken.disconnect(receiver)
    assert response["Location"] == change(article)
    lock = lock_of(article)
    assert lock.locked_by == chief.user
    assert token_in(chief.get(change(article))) == lock.token_str
    entry = LogEntry.objects.get()
    assert (entry.user, entry.get_change_message()) == (
        chief.user,
        "Took over the lock: She is ill.",
    )
    assert caplog.messages == [
        f"The lock of app.Article {article.pk} was broken by chief: She is ill."
    ]
    assert form["lock_token"] not in caplog.text
    if heard:
        assert (heard[0]["by"], heard[0]["reason"]) == (chief.user, "She is ill.")


def test_without_the_permission_one_cannot(alice, bob, article):
    alice.get(change(article))
    lock = lock_of(article)
    assert "Take it over" not in bob.get(change(article)).content.decode()
    assert bob.get(resource(article)).status_code == 403
    data = {"action": "take_over", "reason": "I want it.", "lock": lock.pk}
    assert bob.post(resource(article), data).status_code == 403
    assert lock_of(article) == lock


def test_the_permission_alone_without_that_to_change_is_not_enough(alice, article):
    breaker = staff("breaker", "app.view_article", "lock_tokens.break_lock")
    alice.get(change(article))
    assert breaker.get(resource(article)).status_code == 403


def test_the_same_user_can_take_over_from_another_session(alice, article):
    form = open_form(alice, article)
    elsewhere = Client()
    elsewhere.force_login(alice.user)
    page = elsewhere.get(change(article))
    assert is_read_only(page)
    assert "You are editing this in another session" in page.content.decode()
    take_over(elsewhere, article, "At home.")
    assert not is_read_only(elsewhere.get(change(article)))
    assert alice.post(change(article), form).status_code == 403


@pytest.mark.parametrize("reason", ["", "   ", "x" * 201])
def test_taking_over_wants_a_reason(alice, chief, article, reason):
    alice.get(change(article))
    assert take_over(chief, article, reason).status_code == 200
    assert lock_of(article).locked_by == alice.user


def test_a_lock_that_followed_the_one_that_was_shown_is_not_broken(alice, bob, chief, article):
    with freeze_time(NOON):
        alice.get(change(article))
        shown = lock_of(article).pk
    with freeze_time(NOON + timedelta(hours=2)):
        bob.get(change(article))
        data = {"action": "take_over", "reason": "She is ill.", "lock": shown}
        response = chief.post(resource(article), data)
        assert response.status_code == 200
        assert "bob is editing this" in re.sub("<[^>]*>", "", response.content.decode())
        assert lock_of(article).locked_by == bob.user


def test_what_is_free_meanwhile_needs_no_taking_over(chief, article):
    assert chief.get(resource(article))["Location"] == change(article)
    assert lock_of(article) is None


# The delete page.


def test_the_delete_page_takes_the_lock_and_deleting_ends_it(alice, bob, article):
    page = alice.get(delete(article))
    assert lock_of(article).locked_by == alice.user
    assert 'data-fill="#content form"' in page.content.decode()
    assert bob.get(delete(article))["Location"] == change(article)
    response = alice.post(delete(article), {"post": "yes"})
    assert response.status_code == 302
    assert not Article.objects.exists()
    assert not LockToken.objects.exists()


def test_deleting_what_somebody_else_has_is_403(alice, bob, article):
    alice.get(change(article))
    assert bob.post(delete(article), {"post": "yes"}).status_code == 403
    assert Article.objects.exists()


@pytest.mark.parametrize("by", ["session", "field"])
def test_a_stale_delete_page_deletes_nothing(alice, bob, article, by):
    with freeze_time(NOON):
        alice.get(delete(article))
        token = lock_of(article).token_str
    with freeze_time(NOON + timedelta(hours=2)):
        bob.post(change(article), {**open_form(bob, article), "title": "Bob's"})
        form = {"post": "yes"} | ({"lock_token": token} if by == "field" else {})
        response = alice.post(delete(article), form)
    assert response["Location"] == delete(article)
    assert Article.objects.exists()


def test_deleting_without_having_opened_anything_is_asked_again(alice, article):
    assert alice.post(delete(article), {"post": "yes"})["Location"] == delete(article)
    assert Article.objects.exists()


# An object that the lock of another one protects.


@pytest.fixture
def via():
    enforced = {"app.Story": {}, "app.Correction": {"VIA": "story"}}
    enforced |= {"app.Reply": {"VIA": "correction.story"}}
    with override_settings(LOCK_TOKENS={"ENFORCED_MODELS": enforced}):
        yield


@pytest.fixture
def correction(db, via):
    story = Story.objects.create(slug="bridge")
    with locked(story):
        return Correction.objects.create(story=story)


def test_editing_a_correction_takes_the_lock_of_its_story(correction):
    root, other = (staff(name, superuser=True) for name in ("root", "other"))
    token = token_in(root.get(change(correction)))
    assert lock_of(correction) is None
    assert lock_of(correction.story).token_str == token
    assert is_locked_out(other.get(change(correction)))
    assert other.post(change(correction), {"text": "Forced"}).status_code == 403
    form = {"story": correction.story.pk, "text": "New", "lock_token": token}
    assert root.post(change(correction), form).status_code == 302
    correction.refresh_from_db()
    assert correction.text == "New"
    assert not LockToken.objects.exists()


def test_a_correction_is_deleted_under_the_lock_of_its_story(correction):
    root = staff("root", superuser=True)
    root.get(delete(correction))
    assert lock_of(correction.story)
    assert root.post(delete(correction), {"post": "yes"}).status_code == 302
    assert not Correction.objects.exists()
    assert not LockToken.objects.exists()


def test_a_longer_way_leads_to_the_story_too(correction):
    with locked(correction.story):
        reply = Reply.objects.create(correction=correction)
    root = staff("root", superuser=True)
    token = token_in(root.get(change(reply)))
    assert lock_of(correction.story).token_str == token
    form = {"correction": correction.pk, "text": "New", "lock_token": token}
    assert root.post(change(reply), form).status_code == 302


def test_a_correction_of_no_story_is_locked_itself(db, via):
    correction = Correction.objects.create()
    staff("root", superuser=True).get(change(correction))
    assert lock_of(correction)


def is_locked_out(response):
    content = response.content.decode()
    return "is editing this" in content and 'name="_save"' not in content


# One ModelAdmin for all requests.


def test_nothing_is_kept_on_the_shared_admin(alice, bob, article):
    before = dict(vars(site._registry[Article]))
    open_form(alice, article)
    bob.get(change(article))
    bob.get(delete(article))
    assert vars(site._registry[Article]) == before


@pytest.mark.django_db(transaction=True)
def test_requests_in_parallel_do_not_see_each_other_s_decisions(rule):
    articles = [Article.objects.create(title=f"A{n}") for n in range(4)]
    clients = [staff(f"editor{n}", *CHANGE) for n in range(2)]
    for n, article in enumerate(articles):
        clients[n % 2].get(change(article))

    def visit(n):
        from django.db import connection

        try:
            client = Client()
            client.cookies = clients[n % 2].cookies
            return [is_read_only(client.get(change(each))) for each in articles]
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(visit, range(8)))
    assert found == [[False, True, False, True], [True, False, True, False]] * 4


def test_what_a_page_costs_more_than_in_the_plain_admin(alice, bob, article, count_statements):
    """Taking is 1, reading again 1, and the session is saved once; being refused is 3."""
    ours, theirs = change(article), f"/plain/app/article/{article.pk}/change/"
    for client in (alice, bob):
        client.get(theirs)
    without = count_statements(lambda: alice.get(theirs))
    assert count_statements(lambda: alice.get(ours)) == without + 3
    assert count_statements(lambda: alice.get(ours)) == without + 1
    assert count_statements(lambda: bob.get(ours)) == without + 3


def test_what_a_save_costs_more_than_in_the_plain_admin(alice, article, count_statements, rule):
    """The look and the release, and the session is saved once; enforcement looks again."""
    form = open_form(alice, article)
    other = Article.objects.create(title="Other")
    url = f"/plain/app/article/{other.pk}/change/"
    with override_settings(LOCK_TOKENS={}):
        plainly = {"title": "New", "body": "New.", "view_count": "0"}
        without = count_statements(lambda: alice.post(url, plainly))
    more = 4 if rule == "enforced" else 3
    assert count_statements(lambda: alice.post(change(article), form)) == without + more


def test_what_the_script_of_a_page_costs(alice, article, count_statements):
    """Session, user, permissions (2), object and lock."""
    token = open_form(alice, article)["lock_token"]
    assert count_statements(lambda: alice.get(resource(article), headers=JSON)) == 6
    assert count_statements(lambda: post(alice, article, "renew", token)) == 6
