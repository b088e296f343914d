"""What docs/ says of the admin, of views and of JavaScript is what the code has."""

import ast
import inspect
import re
import sys
from pathlib import Path

import pytest
from django.contrib import admin
from django.contrib.auth import login
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import PermissionDenied
from django.template import engines
from django.test import Client
from django.urls import clear_url_caches, path
from docutils import nodes

import lock_tokens
from lock_tokens.admin import LockableModelAdmin
from lock_tokens.admin.editing import EditingMixin
from lock_tokens.admin.lists import ListMixin
from lock_tokens.banner import Banner
from lock_tokens.mixins import LocksObjectMixin
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.sessions import lock_for_session
from lock_tokens.statuses import LockStatus
from lock_tokens.templatetags.lock_tokens_tags import register
from tests.news.models import Article
from tests.test_docs import DOCS, blocks, parse, table_of

PACKAGE = Path(lock_tokens.__file__).parent
PAGES = ("admin.rst", "javascript.rst", "views.rst")
TEMPLATES = PACKAGE / "templates"
CLIENT = (PACKAGE / "static" / "lock_tokens" / "client.js").read_text()
PAGE_SCRIPT = (PACKAGE / "static" / "lock_tokens" / "page.js").read_text()
STYLES = (PACKAGE / "static" / "lock_tokens" / "page.css").read_text()


def attributes(name):
    """Return the attributes that a page's table tells of, and their defaults."""
    rows = table_of(name, "attribute", "default", "meaning")
    return {attribute: ast.literal_eval(default) for attribute, default, _ in rows}


def attributes_of(*classes):
    found = {}
    for each in classes:
        found |= {name: getattr(each, name) for name in inspect.get_annotations(each)}
    return {name: value for name, value in found.items() if not name.startswith("_")}


def templates_in(text):
    return re.findall(r"lock_tokens/\w+\.html", text)


@pytest.mark.parametrize("name", PAGES)
class TestEveryPage:
    def test_names_tags_that_exist(self, name):
        tags = re.findall(r"{%\s*(\w*lock_\w+)", (DOCS / name).read_text())
        assert set(tags) <= set(register.tags)

    def test_names_templates_that_exist(self, name):
        named = templates_in((DOCS / name).read_text())
        assert [each for each in named if not (TEMPLATES / each).is_file()] == []

    def test_names_modules_and_names_that_exist(self, name):
        for block in blocks(name, "python"):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and node.module.startswith("lock_tokens"):
                    exec(ast.unparse(node), {})  # noqa: S102

    def test_shows_templates_that_compile(self, name):
        for block in blocks(name, "html+django"):
            engines["django"].from_string(block)

    def test_shows_pictures_that_exist_and_say_what_is_in_them(self, name):
        for image in parse(name)[0].findall(nodes.image):
            assert (DOCS / image["uri"]).is_file()
            assert len(image["alt"]) > 20


def test_every_picture_is_shown_and_taken_by_the_script():
    script = (DOCS / "screenshots" / "__main__.py").read_text()
    taken = set(re.findall(r'^    "([\w-]+)": \(', script, re.M))
    images = [image["uri"] for name in PAGES for image in parse(name)[0].findall(nodes.image)]
    assert sorted(images) == sorted(f"screenshots/{each}.png" for each in taken)
    assert {path.stem for path in DOCS.glob("screenshots/*.png")} == taken


def test_the_pictures_are_small():
    assert sum(path.stat().st_size for path in DOCS.glob("screenshots/*.png")) < 1_000_000


# The admin.

site, plain = admin.AdminSite(), admin.AdminSite("plain")


class ArticleAdmin(LockableModelAdmin):
    fields = ("title", "body")


class PlainArticleAdmin(admin.ModelAdmin):
    fields = ("title", "body")


site.register(Article, ArticleAdmin)
plain.register(Article, PlainArticleAdmin)
urlpatterns = [path("admin/", site.urls), path("plain/", plain.urls)]


class TestTheAdminPage:
    TEXT = (DOCS / "admin.rst").read_text()

    def test_has_all_attributes_and_their_defaults(self):
        assert attributes("admin.rst") == attributes_of(EditingMixin, ListMixin)

    def test_names_all_hooks_that_are_to_be_called(self):
        [told] = re.findall(
            r"These hooks of yours have to call ``super\(\)``:(.*?)\. ", self.TEXT, re.S
        )
        ours = {*vars(EditingMixin), *vars(ListMixin)}
        hooks = {name for name in ours if name in dir(admin.ModelAdmin) and name[0] != "_"}
        # One of these may be replaced as a whole: it only adds the column.
        assert set(re.findall(r"``(\w+)``", told)) == hooks - {"get_list_display"}

    @pytest.mark.django_db
    def test_names_permissions_that_exist(self):
        told = [name for name, _ in table_of("admin.rst", "permission", "allows")]
        ours = {name.removeprefix("lock_tokens.") for name in told if "." in name}
        stored = Permission.objects.filter(content_type__app_label="lock_tokens")
        assert ours == ours & {*stored.values_list("codename", flat=True)}

    @pytest.mark.django_db
    def test_tells_what_requests_cost(self, settings, count_statements):
        settings.ROOT_URLCONF = __name__
        settings.LOCK_TOKENS = {}
        told = {request: int(count) for request, count in table_of("admin.rst", *COSTS)}
        assert told == measured(settings, count_statements)

    @pytest.mark.django_db
    def test_shows_a_further_page_that_takes_the_lock_and_presents_its_token(self, settings, rf):
        settings.ROOT_URLCONF = __name__
        page, context = show_layout(rf, user := User.objects.create_superuser("chief"))
        lock = LockToken.objects.get()
        assert lock.locked_by == user
        assert page.count(f'name="lock_token" value="{lock.token_str}"') == 1
        assert f'data-url="/admin/news/article/{context["article"].pk}/lock/"' in page

    @pytest.mark.django_db
    def test_shows_a_further_page_that_is_not_for_everybody(self, settings, rf):
        settings.ROOT_URLCONF = __name__
        with pytest.raises(PermissionDenied):
            show_layout(rf, User.objects.create_user("reader", is_staff=True))
        assert not LockToken.objects.exists()

    @pytest.mark.django_db
    def test_shows_the_line_that_is_logged(self, caplog):
        article = Article.objects.create()
        LockableModel.lock(article)
        with caplog.at_level("INFO", "lock_tokens"):
            LockToken.objects.break_lock(article, by="chief", reason="The council has called")
        [shown] = re.findall(r"::\n\n    (The lock of .*)\n", self.TEXT)
        assert caplog.messages == [shown.replace("Article 1 ", f"Article {article.pk} ")]


COSTS = ("request", "statements")


def measured(settings, count):
    """Return how many statements more than in a plain admin the requests of the table need."""
    clients = [logged_in(name) for name in ("alice", "bob")]
    (alice, bob), article = clients, Article.objects.create(title="Sun")
    ContentType.objects.get_for_models(Article)
    for client in clients:
        client.get(f"/plain/news/article/{article.pk}/change/")

    def more(client, page, **form):
        def call(where):
            send = client.post if form else client.get
            return send(f"/{where}/news/article/{page}", form or None)

        return count(lambda: call("admin")) - count(lambda: call("plain"))

    change = f"{article.pk}/change/"
    found = {
        "open a page: take the lock, read again, remember": more(alice, change),
        "open it again, or in a second tab": more(alice, change),
        "open what somebody else has": more(bob, change),
        "show a change list, however many rows": more(alice, ""),
    }
    for case, enforced in (
        ("save", {}),
        ("save, where the model is enforced", {"news.Article": {}}),
    ):
        alice.get(f"/admin/news/article/{change}")
        token = LockToken.objects.get().token_str
        form = {"title": "Rain", "body": case, "lock_token": token}
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": enforced}
        ours = count(lambda form=form: alice.post(f"/admin/news/article/{change}", form))
        assert Article.objects.get().body == case
        settings.LOCK_TOKENS = {}
        form = {"title": "Rain", "body": f"{case} plainly"}
        plainly = count(lambda form=form: alice.post(f"/plain/news/article/{change}", form))
        found[case] = ours - plainly
    return found


def logged_in(name):
    client = Client()
    client.force_login(User.objects.create_superuser(name))
    return client


def show_layout(rf, user):
    """Show the further page of the example to ``user``; return it and what it was made of."""
    [method] = [block for block in blocks("admin.rst", "python") if "def layout_view" in block]
    [template] = [block for block in blocks("admin.rst", "html+django") if "<form" in block]
    contexts = []

    def rendered(request, name, context):
        contexts.append(context)
        return engines["django"].from_string(template).render(context, request)

    names = {"PermissionDenied": PermissionDenied, "lock_for_session": lock_for_session}
    exec(method, names := {**names, "render": rendered})  # noqa: S102
    article = Article.objects.create(title="Sun")
    request = rf.get("/admin/")
    request.session = SessionStore()
    request.user = user
    login(request, user)
    page = names["layout_view"](site.get_model_admin(Article), request, str(article.pk))
    return page, contexts[0]


# Views.


class TestTheViewsPage:
    TEXT = (DOCS / "views.rst").read_text()

    def test_has_all_attributes_and_their_defaults(self):
        assert attributes("views.rst") == attributes_of(LocksObjectMixin) | {
            "take_over_template_name": LocksObjectMixin.take_over_template_name
        }

    def test_has_all_templates(self):
        told = [name for name, _ in table_of("views.rst", "template", "what it is")]
        assert told == sorted(f"lock_tokens/{p.name}" for p in TEMPLATES.glob("lock_tokens/*.html"))

    def test_has_all_that_a_status_says(self):
        told = {name for name, _ in table_of("views.rst", "name", "value")}
        assert told | {"until_as_time"} == public(LockStatus)

    def test_names_what_is_in_the_context(self):
        [told] = re.findall(r"``lock_page`` has (.*?)\. To", self.TEXT, re.S)
        assert set(re.findall(r"``(\w+)``", told)) <= public(Banner)

    def test_names_classes_and_colours_that_exist(self):
        named = re.findall(r"``(-*lock-tokens-\w+)``", self.TEXT)
        assert named
        assert [name for name in named if name not in STYLES] == []

    @pytest.mark.django_db
    @pytest.mark.parametrize(
        ("request_", "status"),
        [row[:2] for row in table_of("views.rst", "request", "status", "what happens")],
    )
    def test_tells_the_status_of_every_answer(self, request_, status, newsroom):
        assert play(request_, *newsroom) == (status or "no lock")

    @pytest.mark.django_db
    def test_shows_a_page_that_keeps_its_lock_by_script(self, newsroom):
        alice, _, _, url = newsroom
        page = alice.get(url).text
        assert page.count(f'value="{LockToken.objects.get().token_str}"') == 1
        assert f'data-url="{url}?lock_tokens="' in page


@pytest.fixture
def newsroom(settings, monkeypatch):
    """Alice, Bob, an article, and the address of the page of the example that edits it."""
    [views] = [block for block in blocks("views.rst", "python") if "class EditArticle" in block]
    [form] = [block for block in blocks("views.rst", "html+django") if "lock_token_field" in block]
    names = {}
    exec(views.replace("from news.", "from tests.news."), names)  # noqa: S102
    edit = [
        path("articles/<int:pk>/", names["EditArticle"].as_view()),
        path("articles/<int:pk>/delete/", names["DeleteArticle"].as_view()),
    ]
    monkeypatch.setattr(sys.modules[__name__], "urlpatterns", [*urlpatterns, *edit])
    settings.ROOT_URLCONF = __name__
    options = {
        **settings.TEMPLATES[0]["OPTIONS"],
        "loaders": [
            ("django.template.loaders.locmem.Loader", {"news/article_form.html": form}),
            "django.template.loaders.app_directories.Loader",
        ],
    }
    settings.TEMPLATES = [{"BACKEND": settings.TEMPLATES[0]["BACKEND"], "OPTIONS": options}]
    clear_url_caches()
    article = Article.objects.create(title="Sun", body="Bright.")
    return logged_in("alice"), logged_in("bob"), article, f"/articles/{article.pk}/"


def play(case, alice, bob, article, url):
    """Bring ``case`` about and return the status that Alice gets."""
    request, _, state = case.partition(", ")
    method, _, token = request.partition(" ")
    tokens = prepare(state, token, alice, bob, article, url)
    if method == "GET":
        return str(alice.get(url).status_code)
    if method == "HEAD":
        alice.head(url)
        alice.options(url)
        return "a lock" if LockToken.objects.exists() else "no lock"
    if method == "DELETE":
        return str(alice.delete(f"{url}delete/", headers={"X-Lock-Token": tokens[0]}).status_code)
    form = {"title": "" if "has errors" in state else "Rain", "body": "Wet."}
    answer = alice.post(url, {**form, "lock_token": tokens})
    article.refresh_from_db()
    assert (article.title == "Rain") is (answer.status_code == 302)
    return str(answer.status_code)


def prepare(state, token, alice, bob, article, url):
    """Bring about what the table says of lock and session; return the tokens of Alice's form."""
    if "somebody else has" in state:
        bob.get(url)
        return []
    if not token or "no token" in token:
        if "the session has" in state:
            alice.get(url)
        return []
    alice.get(url)
    lock = LockToken.objects.get()
    if "stale" in token:
        LockableModel.unlock(article, lock.token_str)
        if "newer" in state:
            alice.get(url)
    return [lock.token_str]


def public(cls):
    return {name for name in {*vars(cls), *inspect.get_annotations(cls)} if name[0] != "_"}


# JavaScript.


def class_in_client(name):
    """Return the public methods of a class of the client, and their arguments."""
    [body] = re.findall(rf"^  class {name} {{\n(.*?)^  }}", CLIENT, re.S | re.M)
    methods = dict(re.findall(r"^    (?:async )?(\w+)\((.*?)\) {", body, re.M))
    return {m: arguments for m, arguments in methods.items() if m[-1] != "_"}


class TestTheJavaScriptPage:
    def test_has_all_methods_and_their_arguments(self):
        told = dict(
            re.fullmatch(r"(\w+)\((.*)\)", method).groups()
            for method, _ in table_of("javascript.rst", "method", "value")
        )
        methods = class_in_client("LockTokens")
        del methods["constructor"]
        assert told == methods

    def test_has_all_of_a_token(self):
        told = {name for name, _ in table_of("javascript.rst", "of a Token", "value")}
        methods = class_in_client("Token").keys() - {"constructor", "toString"}
        assert told == {f"{name}()" for name in methods} | {"expires"}
        assert "this.expires = expires" in CLIENT

    def test_has_all_events(self):
        told = {name for name, _ in table_of("javascript.rst", "event", "when")}
        sent = re.findall(r'emit\("(\w+)"', CLIENT + PAGE_SCRIPT)
        assert told == {f"lock_tokens.{name}" for name in sent}

    def test_has_all_reasons(self):
        told = {name for name, _ in table_of("javascript.rst", "reason", "of")}
        [verdicts] = re.findall(r"function reasonOf.*?^  }", CLIENT, re.S | re.M)
        found = re.findall(r'(?:return|\?|:) "(\w+)"', verdicts)
        found += re.findall(r'retry\("(\w+)"\)', CLIENT)
        assert told == {*found, "renewed"}
