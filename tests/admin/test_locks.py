"""LockToken in the admin: what is shown of locks, to whom, and how they are released."""

import logging
import re
from datetime import datetime, timezone
from html import unescape
from uuid import UUID

import pytest
from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.contrib.messages import get_messages
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import path
from freezegun import freeze_time

from lock_tokens.admin import LockTokenAdmin
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.signals import lock_broken
from tests.app.models import (
    Article,
    ArticleProxy,
    Bistro,
    Chapter,
    Dated,
    Line,
    Page,
    Place,
    Restaurant,
    Slug,
    Uuid,
)

NOON = "2026-11-22 12:00:00"
LOCKS = "/admin/lock_tokens/locktoken/"

site = AdminSite(name="desk")
site.register(LockToken, LockTokenAdmin)
for each in (Article, Page, Slug, Uuid, Dated, Restaurant, Bistro):
    site.register(each, ModelAdmin)


class CarelessAdmin(LockTokenAdmin):
    """Lets the list be filtered as Django does."""

    lookup_allowed = ModelAdmin.lookup_allowed


CARELESS = "/careless/lock_tokens/locktoken/"
careless = AdminSite(name="careless")
careless.register(LockToken, CarelessAdmin)

urlpatterns = [path("admin/", site.urls), path("careless/", careless.urls)]

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


@pytest.fixture(autouse=True)
def clock():
    with freeze_time(NOON) as clock:
        yield clock


@pytest.fixture
def alice():
    return User.objects.create_user("alice")


def allowed(user, *codenames):
    user.user_permissions.add(*Permission.objects.filter(codename__in=codenames))
    return user


@pytest.fixture
def clerk(client):
    """A user who may look at locks, and at articles, and is logged in."""
    user = User.objects.create_user("clerk", is_staff=True)
    client.force_login(allowed(user, "view_locktoken", "view_article"))
    return user


@pytest.fixture
def boss(client):
    """A user who may do everything, and is logged in."""
    user = User.objects.create_superuser("boss")
    client.force_login(user)
    return user


def lock(obj, **options):
    LockableModel.lock(obj, **options)
    return LockToken.objects.get_for_object(obj)


def body(response):
    """Return the rows of the list as they are in the page."""
    assert response.status_code == 200
    return response.content.decode().partition("<tbody>")[2].partition("</tbody>")[0]


def rows(response):
    """Return the text of the cells of each row of the list."""
    cells = re.compile(r"<t[dh] class=\"field[^>]*>(.*?)</t[dh]>", re.DOTALL)
    found = [cells.findall(row) for row in body(response).split("</tr>")]
    return [[unescape(re.sub("<[^>]+>", "", cell)) for cell in row] for row in found if row]


def names(response):
    """Return the text of the first column."""
    return [row[0] for row in rows(response)]


def links(response):
    return re.findall(r'<a href="(/admin/app/[^"]+)">', body(response))


def release(client, *locks, reason="He is on holiday.", follow=True, **data):
    data |= {"action": "release_locks", "reason": reason, "index": 0}
    data["_selected_action"] = [getattr(each, "pk", each) for each in locks]
    return client.post(LOCKS, data, follow=follow)


def told(response):
    return [str(message) for message in get_messages(response.wsgi_request)]


# The list


def test_a_lock_is_shown_with_its_object_holder_and_times(client, clerk, alice, article):
    lock(article, by=alice, timeout=600)
    assert rows(client.get(LOCKS)) == [
        ["Article: A", "alice", "Nov. 22, 2026, noon", "Nov. 22, 2026, 12:10 p.m.", "Live"]
    ]


def test_a_lock_that_nobody_holds_by_name_shows_a_dash(client, clerk, article):
    lock(article)
    assert rows(client.get(LOCKS))[0][1] == "-"


def test_a_lock_is_since_it_was_taken_not_since_it_was_renewed(client, clerk, clock, article):
    held = LockableModel.lock(article, timeout=600)["token"]
    clock.tick(300)
    LockableModel.lock(article, held)
    assert rows(client.get(LOCKS))[0][2:4] == ["Nov. 22, 2026, noon", "Nov. 22, 2026, 12:15 p.m."]


def test_an_expired_lock_is_shown_as_such(client, clerk, clock, article):
    lock(article, timeout=60)
    clock.tick(60)
    assert rows(client.get(LOCKS))[0][4] == "Expired"


@pytest.mark.parametrize(
    ("make", "link"),
    [
        (lambda: Article.objects.create(pk=5, title="a"), "/admin/app/article/5/change/"),
        (lambda: ArticleProxy.objects.create(pk=5, title="a"), "/admin/app/article/5/change/"),
        (lambda: Slug.objects.create(slug="A/b c"), "/admin/app/slug/A_2Fb%20c/change/"),
        (
            lambda: Uuid.objects.create(id=UUID(int=7)),
            "/admin/app/uuid/00000000-0000-0000-0000-000000000007/change/",
        ),
        (
            lambda: Dated.objects.create(at=datetime(2026, 1, 2, 3, tzinfo=timezone.utc)),
            "/admin/app/dated/2026-01-02%2003:00:00+00:00/change/",
        ),
        (lambda: Restaurant.objects.create(pk=5, name="a"), "/admin/app/restaurant/5/change/"),
        (lambda: Bistro.objects.create(pk=5, name="a"), "/admin/app/restaurant/5/change/"),
    ],
)
def test_an_object_links_to_its_page(client, boss, make, link):
    lock(make())
    assert links(client.get(LOCKS)) == [link]
    assert client.get(link).status_code == 200


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Chapter.objects.create(pk=5, title="a"), "Chapter 5"),
        (lambda: Place.objects.create(pk=5, name="a"), "Place 5"),
        (lambda: Line.objects.create(order=1, number=2), 'Line ["1", "2"]'),
    ],
)
def test_an_object_without_a_page_is_named(client, boss, make, name):
    lock(make())
    response = client.get(LOCKS)
    assert names(response) == [name]
    assert links(response) == []


def test_the_object_is_only_named_to_those_who_may_not_see_it(client, clerk):
    lock(Page.objects.create(pk=5, title="a"))
    response = client.get(LOCKS)
    assert names(response) == ["Page 5"]
    assert links(response) == []


def test_text_is_escaped(client, boss):
    lock(Slug.objects.create(slug="<script>"))
    lock(Article.objects.create(title="<script>"))
    assert names(client.get(LOCKS)) == [
        "Article: <script>",
        "Slug: Slug object (<script>)",
    ]
    assert b"<script>)" not in client.get(LOCKS).content


def gone_object():
    """Lock an object, and delete it in a way that leaves the lock."""
    article = Article.objects.create(pk=7, title="a")
    found = lock(article)
    Article.objects.filter(pk=7)._raw_delete("default")
    return found


def stray(model, key, app="app"):
    """Return a lock such as no program of ours writes."""
    content_type, _ = ContentType.objects.get_or_create(app_label=app, model=model)
    found = lock(Article.objects.create(title="a"))
    locks = LockToken.objects.filter(pk=found.pk)
    locks.update(locked_object_content_type=content_type, locked_object_id=key)
    return found


GONE = [
    (gone_object, "Article 7 (does not exist any more)"),
    (lambda: stray("thing", "7", "gone"), "gone.thing 7 (its model is not installed)"),
    (lambda: stray("article", "no number"), "Article no number (does not exist any more)"),
    (lambda: stray("line", "no json"), "Line no json (does not exist any more)"),
    (lambda: stray("uuid", "no uuid"), "Uuid no uuid (does not exist any more)"),
]


@pytest.mark.parametrize(("make", "name"), GONE)
def test_a_lock_on_what_is_gone_is_shown_and_can_be_released(client, boss, make, name):
    found = make()
    response = client.get(LOCKS)
    assert names(response) == [name]
    assert links(response) == []
    assert name in unescape(client.get(f"{LOCKS}{found.pk}/change/").content.decode())
    assert told(release(client, found)) == [f"Released 1 lock: {name}."]
    assert not LockToken.objects.exists()
    assert LogEntry.objects.get().object_repr == name


@pytest.mark.parametrize("count", [1, 30])
def test_the_list_costs_the_same_however_many_locks_there_are(
    client, boss, alice, bob, count, assert_statements
):
    for number in range(count):
        lock(Article.objects.create(title="a"), by=[alice, bob][number % 2])
        lock(Place.objects.create(name="a"))
    client.get(LOCKS)
    # Session, user, count, locks, models for the filter; names; articles; places as bistros, as
    # restaurants and as such.
    with assert_statements(10):
        assert len(rows(client.get(LOCKS))) == 2 * count


@pytest.mark.parametrize(("shown", "times"), [(True, 1), ("authenticated", 1), (False, 0)])
def test_holders_are_named_to_staff_unless_nobody_is_told(
    client, boss, alice, article, settings, shown, times
):
    settings.LOCK_TOKENS = {"SHOW_HOLDER": shown}
    found = lock(article, by=alice)
    for url in (LOCKS, f"{LOCKS}{found.pk}/change/"):
        page = client.get(url).content.decode()
        assert page.count("alice") == times
        assert ("Holder" in page) is bool(times)


def test_the_state_filter_tells_live_from_expired(client, boss, clock):
    lock(Article.objects.create(title="old"), timeout=60)
    lock(Article.objects.create(title="new"), timeout=600)
    clock.tick(60)
    assert names(client.get(LOCKS, {"state": "live"})) == ["Article: new"]
    assert names(client.get(LOCKS, {"state": "expired"})) == ["Article: old"]
    assert rows(client.get(LOCKS, {"state": "odd"})) == []


def test_the_model_filter_offers_the_models_of_which_something_is_locked(client, boss, article):
    lock(article)
    lock(Slug.objects.create(slug="a"))
    page = client.get(LOCKS).content.decode()
    offered = dict(re.findall(r'<a href="\?model=(\d+)"[^>]*>\s*([^<]+?)\s*</a>', page))
    assert sorted(offered.values()) == ["App | article", "App | slug"]
    slugs = next(pk for pk, name in offered.items() if name == "App | slug")
    assert names(client.get(LOCKS, {"model": slugs})) == ["Slug: Slug object (a)"]


@pytest.mark.parametrize("value", ["0", "x", "9" * 30, "\x00"])
def test_the_model_filter_finds_nothing_of_no_model(client, boss, article, value):
    lock(article)
    lock(Slug.objects.create(slug="a"))
    assert rows(client.get(LOCKS, {"model": value})) == []


@pytest.mark.parametrize(
    ("term", "found"),
    [
        ("12", ["Article: b"]),
        (" 12 ", ["Article: b"]),
        ("A/b c", ["Slug: Slug object (A/b c)"]),
        ("a/b c", []),
        ("A/b", []),
        ("2", []),
        ("", ["Slug: Slug object (A/b c)", "Article: b"]),
        ("\x00", ["Slug: Slug object (A/b c)", "Article: b"]),
    ],
)
def test_locks_are_searched_by_the_whole_key_of_their_object(client, boss, term, found):
    lock(Article.objects.create(pk=12, title="b"))
    lock(Slug.objects.create(slug="A/b c"))
    assert names(client.get(LOCKS, {"q": term})) == found


@pytest.mark.parametrize("column", range(1, 6))
def test_every_column_can_be_asked_to_sort(client, boss, article, column):
    lock(article)
    assert len(rows(client.get(LOCKS, {"o": column}))) == 1


# Tokens


def test_no_page_shows_a_token(client, boss, alice, article):
    found = lock(article, by=alice)
    detail = f"{LOCKS}{found.pk}/change/"
    history = f"{LOCKS}{found.pk}/history/"
    pages = [client.get(url) for url in (LOCKS, detail, history, "/admin/")]
    pages += [
        client.get(f"/admin/app/article/{article.pk}/{page}/") for page in ("change", "history")
    ]
    pages += [release(client, reason=""), release(client, found)]
    pages += [client.get("/admin/"), client.get(f"/admin/app/article/{article.pk}/history/")]
    for page in pages:
        assert page.status_code == 200
        assert found.token_str not in page.content.decode()
    assert "••••" in pages[1].content.decode()


@pytest.mark.parametrize("lookup", ["token_str", "token_str__startswith", "token_str__gte"])
def test_a_token_cannot_be_found_out_letter_by_letter(client, boss, article, lookup):
    found = lock(article)
    for value in (found.token_str, "f" * 32):
        response = client.get(LOCKS, {lookup: value[:1]})
        assert response.status_code == 400


def test_without_that_guard_it_could_be(client, boss, article):
    found = lock(article)
    assert len(rows(client.get(CARELESS, {"token_str__startswith": found.token_str[:1]}))) == 1
    assert rows(client.get(CARELESS, {"token_str__startswith": "x"})) == []


def test_a_token_cannot_be_found_out_through_other_lookups(client, boss, article):
    found = lock(article)
    through = "locked_object_content_type__locktoken__token_str"
    assert client.get(LOCKS, {through: found.token_str}).status_code == 400
    assert client.get(LOCKS, {"_to_field": "token_str"}).status_code == 400
    assert client.get(f"{LOCKS}{found.token_str}/change/?_to_field=token_str").status_code == 400


def test_tokens_are_not_even_read(client, boss, article):
    found = lock(article)
    with CaptureQueriesContext(connection) as captured:
        client.get(LOCKS)
        client.get(f"{LOCKS}{found.pk}/change/")
    asked = [query["sql"] for query in captured if "lock_tokens_locktoken" in query["sql"]]
    assert asked
    assert not any("token_str" in sql for sql in asked)


def test_nothing_secret_is_logged(client, boss, article, caplog):
    found = lock(article)
    with caplog.at_level(logging.DEBUG):
        release(client, found)
    entry = LogEntry.objects.get()
    texts = [caplog.text, entry.change_message, entry.object_repr, str(entry.object_id)]
    assert not any(found.token_str in text for text in texts)


# Who may do what


def test_who_may_not_view_locks_does_not_see_them(client, alice, article):
    found = lock(article)
    alice.is_staff = True
    alice.save()
    client.force_login(allowed(alice, "view_article", "change_article", "break_lock"))
    assert client.get(LOCKS).status_code == 403
    assert client.get(f"{LOCKS}{found.pk}/change/").status_code == 403
    assert release(client, found).status_code == 403
    LockToken.objects.get()


def test_locks_are_neither_added_nor_changed_nor_deleted(client, boss, article):
    found = lock(article)
    detail = f"{LOCKS}{found.pk}/change/"
    assert client.get(f"{LOCKS}add/").status_code == 403
    assert client.post(f"{LOCKS}add/", {}).status_code == 403
    assert client.post(detail, {"locked_object_id": "9"}).status_code == 403
    assert client.get(f"{LOCKS}{found.pk}/delete/").status_code == 403
    assert client.post(f"{LOCKS}{found.pk}/delete/", {"post": "yes"}).status_code == 403
    page = client.get(detail).content.decode()
    assert 'name="_save"' not in page
    assert "deletelink" not in page
    assert "<input" not in page.partition('id="content-main"')[2].replace(
        '<input type="hidden" name="csrfmiddlewaretoken"', ""
    )
    listed = client.get(LOCKS).content.decode()
    assert f'href="{LOCKS}add/"' not in listed
    assert "delete_selected" not in listed
    data = {"action": "delete_selected", "_selected_action": [found.pk], "index": 0, "post": "yes"}
    client.post(LOCKS, data)
    LockToken.objects.get()


def test_release_is_offered_to_those_who_may_break_locks_only(client, clerk, article):
    found = lock(article)
    assert "release_locks" not in client.get(LOCKS).content.decode()
    release(client, found)
    LockToken.objects.get()
    allowed(clerk, "break_lock")
    page = client.get(LOCKS).content.decode()
    assert '<option value="release_locks">Release selected locks</option>' in page
    assert re.search(r"<label>Reason:\s*<input[^>]* name=\"reason\"", page)
    release(client, found)
    assert not LockToken.objects.exists()


# Release


def test_the_selected_locks_are_released_and_named(client, boss):
    kept, *others = [lock(Article.objects.create(title=title)) for title in "abc"]
    response = release(client, *others)
    assert told(response) == ["Released 2 locks: Article: b, Article: c."]
    assert LockToken.objects.get() == kept


def test_many_released_locks_are_counted(client, boss):
    locks = [lock(Article.objects.create(title=title)) for title in "abcdefghijkl"]
    assert told(release(client, *locks)) == [
        "Released 12 locks: Article: a, Article: b, Article: c, Article: d, Article: e, "
        "Article: f, Article: g, Article: h, Article: i, Article: j, …."
    ]


def test_all_pages_of_locks_can_be_released_at_once(client, boss):
    locks = [lock(Article.objects.create(title=title)) for title in "ab"]
    response = release(client, locks[0], select_across="1")
    assert told(response) == ["Released 2 locks: Article: a, Article: b."]


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_release_needs_a_reason(client, boss, article, reason):
    found = lock(article)
    assert told(release(client, found, reason=reason)) == [
        "Nothing was released: say why in the field “Reason” beside the action."
    ]
    LockToken.objects.get()
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("reason", ["x" * 201, "a\x00b"])
def test_a_reason_that_cannot_be_kept_releases_nothing(client, boss, article, reason):
    assert told(release(client, lock(article), reason=reason)) == ["No action selected."]
    LockToken.objects.get()


def test_a_release_is_in_the_history_of_the_object(client, boss, article):
    release(client, lock(article), reason=" He is <ill>. ")
    entry = LogEntry.objects.get()
    assert entry.user == boss
    assert entry.get_edited_object() == article
    assert entry.object_repr == "Article: A"
    assert entry.action_flag == CHANGE
    assert entry.get_change_message() == "Released its lock: He is <ill>."
    history = client.get(f"/admin/app/article/{article.pk}/history/").content.decode()
    assert "Released its lock: He is &lt;ill&gt;." in history


def test_a_release_is_announced_with_who_and_why(
    client, boss, alice, article, django_capture_on_commit_callbacks
):
    heard = []

    def hear(sender, **kwargs):
        heard.append((sender, kwargs["pk"], kwargs["by"], kwargs["reason"]))

    found = lock(article, by=alice)
    lock_broken.connect(hear)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            release(client, found)
    finally:
        lock_broken.disconnect(hear)
    assert heard == [(Article, article.pk, boss, "He is on holiday.")]


def test_a_lock_that_somebody_took_since_the_page_was_shown_stays(client, boss, clock, article):
    shown = lock(article, timeout=60)
    clock.tick(60)
    follower = lock(article)
    other = lock(Article.objects.create(title="b"))
    assert told(release(client, shown)) == ["1 selected lock is not there any more."]
    assert told(release(client, shown, other, 10**9)) == [
        "Released 1 lock: Article: b.",
        "2 selected locks are not there any more.",
    ]
    assert LockToken.objects.get() == follower
