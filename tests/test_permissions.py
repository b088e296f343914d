"""What the REST API may lock, and who: API_MODELS and API_PERMISSION over HTTP."""

import subprocess
import sys
from weakref import WeakSet

import pytest
from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.auth.models import AbstractUser, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.http import Http404
from django.test import RequestFactory

from lock_tokens import permissions
from lock_tokens.admin import LockableModelAdmin
from lock_tokens.models import LockableModel, LockToken
from tests.app.models import Article, ArticleProxy, Bistro, Chapter, Page, Place, Restaurant
from tests.test_views import url_of

pytestmark = pytest.mark.django_db


class Account(models.Model):
    """May be replaced by another model, and is where a test says so."""

    class Meta:
        app_label = "app"
        swappable = "TESTS_ACCOUNT_MODEL"


ANYBODY = "tests.test_permissions.anybody"
NO_OBJECT = {"title": "Not found", "status": 404, "detail": "There is no such object."}
FORBIDDEN = {"title": "Forbidden", "status": 403, "detail": "You may not lock this object."}


def anybody(request, action, obj):
    return True


def nobody(request, action, obj):
    return False


def only_look(request, action, obj):
    return action in {"status", "read"}


def only_first(request, action, obj):
    return obj.title == "first"


def hidden(request, action, obj):
    raise Http404("Nothing to see here.")


@pytest.fixture(autouse=True)
def sites(monkeypatch):
    """Let the sites of other tests open nothing."""
    found = WeakSet()
    monkeypatch.setattr("django.contrib.admin.sites.all_sites", found)
    return found


@pytest.fixture
def article():
    return Article.objects.create(title="a")


@pytest.fixture
def alice(client):
    user = User.objects.create_user("alice")
    client.force_login(user)
    return user


def allow(user, *codenames):
    user.user_permissions.add(*Permission.objects.filter(codename__in=codenames))


# API_MODELS


def found(client, obj, model=None):
    return client.get(url_of(obj, model)).status_code == 200


def test_by_default_lockable_and_enforced_models_and_no_others(client, article, settings):
    settings.LOCK_TOKENS = {"API_PERMISSION": ANYBODY}
    assert found(client, Page.objects.create(title="a"))
    assert found(client, Chapter.objects.create(title="a"))
    assert not found(client, article)
    assert not found(client, User.objects.create_user("u"))
    settings.LOCK_TOKENS = {"API_PERMISSION": ANYBODY, "ENFORCED_MODELS": ["app.Article"]}
    assert found(client, article)
    assert found(client, article, ArticleProxy)


def test_a_list_opens_what_it_names_and_nothing_else(client, article, settings):
    settings.LOCK_TOKENS = {
        "API_PERMISSION": ANYBODY,
        "API_MODELS": ["app.article"],
        "ENFORCED_MODELS": ["app.Restaurant"],
    }
    assert found(client, article)
    assert not found(client, Page.objects.create(title="a"))
    assert not found(client, Restaurant.objects.create(name="a"))


def test_an_empty_list_opens_nothing(client, settings):
    settings.LOCK_TOKENS = {"API_PERMISSION": ANYBODY, "API_MODELS": []}
    assert not found(client, Page.objects.create(title="a"))


@pytest.mark.parametrize("key", ["API_MODELS", "ENFORCED_MODELS"])
@pytest.mark.parametrize("label", ["app.Article", "app.ArticleProxy", "app.articleproxy"])
def test_a_model_and_its_proxies_are_opened_together(client, article, settings, key, label):
    settings.LOCK_TOKENS = {"API_PERMISSION": ANYBODY, key: [label]}
    assert found(client, article)
    assert found(client, article, ArticleProxy)


@pytest.mark.parametrize("key", ["API_MODELS", "ENFORCED_MODELS"])
def test_a_model_is_opened_with_its_children_but_not_with_its_parents(client, settings, key):
    settings.LOCK_TOKENS = {"API_PERMISSION": ANYBODY, key: ["app.Restaurant"]}
    bistro = Bistro.objects.create(name="a")
    assert found(client, bistro)
    assert found(client, bistro, Restaurant)
    assert not found(client, bistro, Place)


def test_all_opens_every_model_also_those_that_django_made(client, settings):
    settings.LOCK_TOKENS = {"API_PERMISSION": ANYBODY, "API_MODELS": "__all__"}
    user = User.objects.create_user("u")
    allow(user, "add_user")
    assert found(client, user)
    assert found(client, User.user_permissions.through.objects.get())


@pytest.mark.parametrize("name", ["lock_tokens/lockablemodel", "auth/abstractuser", "gone/thing"])
def test_what_has_no_table_is_not_found(client, settings, name):
    ContentType.objects.create(app_label="gone", model="thing")
    settings.LOCK_TOKENS = {"API_PERMISSION": ANYBODY, "API_MODELS": "__all__"}
    assert LockableModel._meta.abstract
    assert AbstractUser._meta.abstract
    assert client.post(f"/lock_tokens/{name}/1/").json() == NO_OBJECT


def test_a_swapped_model_is_not_found(client, settings):
    settings.LOCK_TOKENS = {"API_PERMISSION": ANYBODY, "API_MODELS": "__all__"}
    url = url_of(Account.objects.create())
    assert client.get(url).status_code == 200
    settings.TESTS_ACCOUNT_MODEL = "auth.User"
    assert client.get(url).json() == NO_OBJECT


def test_a_label_of_no_model_opens_nothing(settings):
    settings.LOCK_TOKENS = {"API_MODELS": ["app.Nothing", "app.Page"]}
    assert not permissions.is_lockable(Article)
    assert permissions.is_lockable(Page)


@pytest.fixture
def desk():
    """A site of a project's own, beside Django's."""
    return AdminSite(name="desk")


@pytest.mark.parametrize("registered", [Article, ArticleProxy])
def test_a_model_with_a_lockable_admin_in_any_site_is_opened(
    client, article, settings, desk, registered
):
    settings.LOCK_TOKENS = {"API_PERMISSION": ANYBODY}
    desk.register(Place, ModelAdmin)
    assert not found(client, article)
    desk.register(registered, LockableModelAdmin)
    assert found(client, article)
    assert found(client, article, ArticleProxy)
    assert not found(client, Place.objects.create(name="a"))
    desk.unregister(registered)
    assert not found(client, article)


def test_a_lockable_admin_opens_the_children_of_its_model_but_not_the_parents(
    client, settings, desk
):
    settings.LOCK_TOKENS = {"API_PERMISSION": ANYBODY}
    desk.register(Restaurant, LockableModelAdmin)
    bistro = Bistro.objects.create(name="a")
    assert found(client, bistro)
    assert found(client, bistro, Restaurant)
    assert not found(client, bistro, Place)


def test_a_list_says_alone_what_is_opened(client, article, settings, desk):
    desk.register(Article, LockableModelAdmin)
    settings.LOCK_TOKENS = {"API_PERMISSION": ANYBODY, "API_MODELS": ["app.Page"]}
    assert not found(client, article)


def test_a_lockable_admin_asks_for_the_change_permission(client, article, alice, desk):
    desk.register(Article, LockableModelAdmin)
    assert client.post(url_of(article)).json() == NO_OBJECT
    allow(alice, "change_article")
    assert client.post(url_of(article)).status_code == 201


WITHOUT_ADMIN = """
import django
from django.conf import settings

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "lock_tokens"],
    LOCK_TOKENS={"ENFORCED_MODELS": ["auth.Group"]},
)
django.setup()

import sys
from django.contrib.auth.models import Group, User
from lock_tokens import permissions, urls

assert permissions.is_lockable(Group)
assert not permissions.is_lockable(User)
assert "lock_tokens.admin" not in sys.modules
"""


def test_a_project_without_the_admin_has_an_api_too():
    subprocess.run([sys.executable, "-W", "error", "-c", WITHOUT_ADMIN], check=True)


# API_PERMISSION


def test_by_default_anyone_locks_what_was_opened_on_purpose(client, article, settings):
    settings.LOCK_TOKENS = {"API_MODELS": ["app.Article", "app.Page"]}
    assert client.post(url_of(article)).status_code == 201
    assert client.post(url_of(Page.objects.create(title="a"))).status_code == 201
    settings.LOCK_TOKENS = {}
    assert client.post(url_of(Page.objects.create(title="b"))).status_code == 201


@pytest.mark.parametrize(
    "opened", [{"ENFORCED_MODELS": ["app.Article"]}, {"API_MODELS": "__all__"}]
)
def test_by_default_the_rest_needs_the_change_permission(client, article, settings, opened):
    settings.LOCK_TOKENS = opened
    url = url_of(article)
    assert client.post(url).json() == NO_OBJECT

    alice = User.objects.create_user("alice")
    client.force_login(alice)
    assert client.post(url).json() == NO_OBJECT
    allow(alice, "view_article")
    response = client.post(url)
    assert response.status_code == 403
    assert response.json() == FORBIDDEN
    allow(alice, "change_article")
    assert client.post(url).status_code == 201


@pytest.mark.parametrize("method", ["POST", "GET", "PATCH", "DELETE"])
def test_an_anonymous_client_does_not_get_at_a_user(client, settings, method):
    settings.LOCK_TOKENS = {"API_MODELS": "__all__"}
    user = User.objects.create_user("u")
    header = {"X-Lock-Token": LockableModel.lock(user)["token"]}
    for url in [url_of(user), f"{url_of(user)}{header['X-Lock-Token']}/"]:
        response = client.generic(method, url, headers=header)
        if response.status_code != 405:
            assert response.json() == NO_OBJECT
    LockToken.objects.get()


@pytest.mark.parametrize("method", ["POST", "GET", "PATCH", "DELETE"])
def test_who_may_not_see_an_object_cannot_tell_it_from_none(client, article, settings, method):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"]}
    LockableModel.lock(article)
    there = client.generic(method, url_of(article))
    not_there = client.generic(method, url_of(Article(pk=article.pk + 1)))
    not_lockable = client.generic(method, url_of(Place.objects.create(name="a")))
    assert there.status_code == 404
    for other in [not_there, not_lockable]:
        assert other.status_code == there.status_code
        assert other.content == there.content
        assert other.headers == there.headers


def test_is_authenticated(client, article, settings):
    settings.LOCK_TOKENS = {
        "API_MODELS": ["app.Article"],
        "API_PERMISSION": "lock_tokens.permissions.is_authenticated",
    }
    assert client.post(url_of(article)).json() == NO_OBJECT
    client.force_login(User.objects.create_user("alice"))
    assert client.post(url_of(article)).status_code == 201


def test_can_change_object(client, article, alice, settings):
    settings.LOCK_TOKENS = {
        "API_MODELS": ["app.Article"],
        "API_PERMISSION": "lock_tokens.permissions.can_change_object",
    }
    assert client.post(url_of(article)).json() == NO_OBJECT
    allow(alice, "change_article")
    assert client.post(url_of(article)).status_code == 201


def test_a_proxy_asks_for_the_permission_on_the_model_whose_row_it_is(
    client, article, alice, settings
):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"]}
    allow(alice, "change_articleproxy")
    assert client.post(url_of(article, ArticleProxy)).status_code == 404
    allow(alice, "change_article")
    assert client.post(url_of(article, ArticleProxy)).status_code == 201


class OnlyFirst:
    """An authentication backend with permissions on objects."""

    def authenticate(self, request, **credentials):
        return None

    def get_user(self, pk):
        return User.objects.filter(pk=pk).first()

    def has_perm(self, user, permission, obj=None):
        return permission == "app.change_article" and obj is not None and obj.title == "first"


def test_a_permission_on_just_this_object_is_enough(client, settings):
    backend = f"{__name__}.OnlyFirst"
    settings.AUTHENTICATION_BACKENDS = [backend]
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"]}
    client.force_login(User.objects.create_user("alice"), backend=backend)
    first, second = (Article.objects.create(title=title) for title in ["first", "second"])
    assert client.post(url_of(first)).status_code == 201
    assert client.post(url_of(second)).status_code == 404


def own(settings, function):
    settings.LOCK_TOKENS = {
        "API_MODELS": ["app.Article"],
        "API_PERMISSION": f"{__name__}.{function}",
    }


def test_an_own_function_is_told_the_action(client, article, alice, settings):
    allow(alice, "view_article")
    own(settings, "only_look")
    url, held = url_of(article), LockableModel.lock(article)["token"]
    assert client.get(url).status_code == client.get(f"{url}{held}/").status_code == 200
    for method, road in [("POST", url), ("PATCH", f"{url}{held}/"), ("DELETE", f"{url}{held}/")]:
        assert client.generic(method, road).json() == FORBIDDEN
    LockToken.objects.get()


def test_an_own_function_is_told_the_object(client, settings):
    own(settings, "only_first")
    first, second = (Article.objects.create(title=title) for title in ["first", "second"])
    assert client.post(url_of(first)).status_code == 201
    assert client.post(url_of(second)).json() == NO_OBJECT


def test_an_own_function_may_answer_itself(client, article, settings):
    own(settings, "hidden")
    assert client.post(url_of(article)).json()["detail"] == "Nothing to see here."


def test_a_valid_token_is_no_permission(client, article, alice, settings):
    own(settings, "nobody")
    token = LockableModel.lock(article)["token"]
    assert client.delete(f"{url_of(article)}{token}/").status_code == 404
    LockToken.objects.get()


def test_permissions_work_without_the_authentication_middleware(article):
    request = RequestFactory().post("/")
    assert permissions.default(request, "lock", Page()) is True
    assert permissions.default(request, "lock", article) is False
    assert permissions.is_authenticated(request, "lock", article) is False
    assert permissions.can_see_object(request, article) is False
