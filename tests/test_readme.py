"""README.rst is true: its snippets run, its tables say what the code says."""

import argparse
import ast
import doctest
import importlib
import inspect
import io
import json
import re
import runpy
import shlex
import sys
import types
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from asgiref.sync import async_to_sync
from django.contrib import admin
from django.contrib.admin import AdminSite, sites
from django.contrib.auth.models import Permission, User
from django.core import checks
from django.core.management import call_command, load_command_class
from django.core.management.color import no_style
from django.db import connection
from django.dispatch import Signal
from django.template import engines
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path
from docutils import nodes
from docutils.core import publish_doctree
from freezegun import freeze_time

import lock_tokens
from lock_tokens import exceptions, signals
from lock_tokens.checks import OPTIONS
from lock_tokens.enforcement import holding, locked, suspended
from lock_tokens.exceptions import AlreadyLockedError, LockRequired, WriteRefused
from lock_tokens.models import LockableModel
from lock_tokens.settings import SPECS
from tests import news
from tests.news.models import Article, Correction, Photo, Section, Tag

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(lock_tokens.__file__).parent
DOCUMENTS = sorted(path.name for path in ROOT.glob("*.rst"))
MIDDLEWARE = "lock_tokens.enforcement.middleware.LockTokenMiddleware"


def parse(name):
    warnings = io.StringIO()
    overrides = {"report_level": 1, "warning_stream": warnings, "_disable_config": True}
    path = ROOT / name
    document = publish_doctree(path.read_text(), str(path), settings_overrides=overrides)
    return document, warnings.getvalue()


class Snippet:
    """One literal block of the README: its language, its text, and the file it belongs to."""

    def __init__(self, node):
        classes = node["classes"]
        self.language = classes[1] if classes[:1] == ["code"] else None
        self.text = node.astext() + "\n"
        # The first line of a file's snippet is a comment that names the file.
        first = self.text.splitlines()[0]
        found = re.fullmatch(r"(?:# |\{# )([\w./]+\.(?:py|html))(?: #\})?", first)
        self.file = found[1] if found else None

    @property
    def kind(self):
        if self.language in {"pycon", "console"}:
            return self.language
        languages = {".py": "python", ".html": "html+django"}
        if self.file and languages[Path(self.file).suffix] == self.language:
            return "settings" if self.file == "settings.py" else "file"
        return None


README, _ = parse("README.rst")
SNIPPETS = [Snippet(node) for node in README.findall(nodes.literal_block)]


def table(first_heading):
    """Return the rows, as lists of texts, of the table whose first column has that heading."""
    for found in README.findall(nodes.table):
        rows = [
            [entry.astext().replace("\n", " ") for entry in row.findall(nodes.entry)]
            for row in found.findall(nodes.row)
        ]
        if rows[0][0] == first_heading:
            return rows[1:]
    raise AssertionError(f"README.rst has no table of {first_heading!r}")


@pytest.fixture
def now():
    # Template libraries may import database drivers, which need the real datetime.
    engines.all()
    with freeze_time("2026-11-22 15:00:00") as frozen:
        yield frozen


@pytest.fixture
def site(db, now, settings, tmp_path, monkeypatch):
    """The reader's project: the README's first settings, all its files, one article."""
    return Site(settings, tmp_path, monkeypatch)


class Site:
    def __init__(self, settings, path, monkeypatch):
        self.settings = settings
        self.path = path
        self.template_dir = path / "templates"
        monkeypatch.setitem(sys.modules, "news", news)
        monkeypatch.setitem(sys.modules, "news.models", news.models)
        self.base = [name for name in settings.MIDDLEWARE if name != MIDDLEWARE]
        settings.ALLOWED_HOSTS = ["localhost"]
        settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [self.template_dir]}]
        self.start_over()
        self._write_files()
        self.views = self._load(monkeypatch, "news.views", "news/views.py")
        self.tasks = self._load(monkeypatch, "news.tasks", "news/tasks.py")
        urls = self._load(monkeypatch, "readme_urls", "urls.py")
        self._load_admin(monkeypatch, urls)
        settings.ROOT_URLCONF = "readme_urls"
        self.article = Article.objects.create(
            pk=1,
            title="Sun",
            section=Section.objects.create(name="Weather"),
            photo=Photo.objects.create(caption="Sky"),
        )
        # The key that was given is taken, which a sequence of PostgreSQL does not know.
        with connection.cursor() as cursor:
            for sql in connection.ops.sequence_reset_sql(no_style(), [Article]):
                cursor.execute(sql)
        self.users = {
            name: User.objects.create_user(name, is_staff=True) for name in ("alice", "bob")
        }
        may_change = Permission.objects.get(
            codename="change_article", content_type__app_label="news"
        )
        for user in self.users.values():
            user.user_permissions.add(may_change)

    def start_over(self):
        """Put the settings that the README begins with in force."""
        self.settings.MIDDLEWARE = self.base
        self.apply(next(snippet for snippet in SNIPPETS if snippet.kind == "settings"))

    def apply(self, snippet):
        """Put ``snippet`` into force as a settings module would, and run the system checks."""
        file = self.path / "settings.py"
        file.write_text(snippet.text)
        without = [name for name in self.settings.INSTALLED_APPS if name != "lock_tokens"]
        before = {"MIDDLEWARE": [*self.base], "INSTALLED_APPS": [*without]}
        after = runpy.run_path(str(file), before)
        changed = {name for name in ("INSTALLED_APPS", "MIDDLEWARE") if name in snippet.text}
        if "INSTALLED_APPS" in changed:
            assert after["INSTALLED_APPS"] == [*without, "lock_tokens"]
        if "MIDDLEWARE" in changed:
            self.settings.MIDDLEWARE = after["MIDDLEWARE"]
        if "LOCK_TOKENS" in after:
            self.settings.LOCK_TOKENS = after["LOCK_TOKENS"]
        # Others are about the models of the test project.
        ours = [message for message in checks.run_checks() if "lock_tokens" in message.id]
        assert ours == []

    def _write_files(self):
        for snippet in SNIPPETS:
            if snippet.kind == "file":
                file = self.path / snippet.file
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("a") as stream:
                    stream.write(snippet.text)

    def _load(self, monkeypatch, name, file):
        spec = importlib.util.spec_from_file_location(name, self.path / file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    def _load_admin(self, monkeypatch, urls):
        # A site that ends with the test: what is registered the REST API may lock.
        own = AdminSite()
        monkeypatch.setattr(admin, "site", own)
        monkeypatch.setattr(sites, "site", own)
        self._load(monkeypatch, "news.admin", "news/admin.py")
        urls.urlpatterns.append(path("admin/", own.urls))

    def client(self, name, **options):
        client = Client(headers={"host": "localhost:8000"}, **options)
        client.force_login(self.users[name])
        return client

    def stored(self):
        """Return the article's values as the database has them, ``None`` if it is gone."""
        return Article.objects.filter(pk=1).values().first()


class Shell:
    """Plays the ``console`` snippets: make, pip, manage.py and curl."""

    def __init__(self, site):
        self.site = site
        # The tokens that the README prints, and the ones that were really given.
        self.tokens = {}

    def play(self, snippet):
        for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", snippet.text, re.M):
            for printed, real in self.tokens.items():
                command = command.replace(printed, real)
            command, _, pipe = command.partition(" | ")
            program, *arguments = shlex.split(command)
            output = getattr(self, program)(arguments)
            if pipe:
                assert pipe == "python -m json.tool"
                output = json.dumps(json.loads(output), indent=4)
            if expected.strip():
                self._learn_token(expected, output)
                for printed, real in self.tokens.items():
                    output = output.replace(real, printed)
                assert output.split() == expected.split(), command

    def _learn_token(self, expected, output):
        pattern = r'"token": "([0-9a-f]{32})"'
        printed, real = re.search(pattern, expected), re.search(pattern, output)
        if printed and real:
            self.tokens.setdefault(printed[1], real[1])

    def make(self, arguments):
        [target] = arguments
        assert re.search(rf"^{target}\b.*:", (ROOT / "Makefile").read_text(), re.M)

    def pip(self, arguments):
        metadata = (ROOT / "pyproject.toml").read_text()
        name = re.search(r'^name = "(.+)"$', metadata, re.M)[1]
        [command, package] = arguments
        assert command == "install"
        asked, _, extra = package.rstrip("]").partition("[")
        assert asked == name
        assert not extra or re.search(rf"^{extra} = ", metadata, re.M)

    def python(self, arguments):
        manage, name, *options = arguments
        assert manage == "manage.py"
        output = io.StringIO()
        call_command(name, *options, stdout=output, no_color=True)
        return output.getvalue()

    def curl(self, arguments):
        parser = argparse.ArgumentParser()
        parser.add_argument("-X", dest="method", default="GET")
        parser.add_argument("-H", dest="headers", action="append", default=[])
        parser.add_argument("-b", dest="cookies", choices=["cookies.txt"])
        parser.add_argument("-d", dest="data", action="append", default=[])
        parser.add_argument("-i", dest="include", action="store_true")
        parser.add_argument("url")
        options = parser.parse_args(arguments)
        url = urlsplit(options.url)
        assert (url.scheme, url.netloc) == ("http", "localhost:8000")
        csrf = "c" * 32
        client = Client(enforce_csrf_checks=True)
        if options.cookies:
            client = self.site.client("alice", enforce_csrf_checks=True)
            client.cookies["csrftoken"] = csrf
        headers = dict(header.replace("$CSRF", csrf).split(": ", 1) for header in options.headers)
        response = client.generic(
            options.method,
            url.path,
            "&".join(options.data),
            "application/x-www-form-urlencoded",
            headers={"host": url.netloc, "accept": "*/*", **headers},
        )
        body = response.content.decode()
        start = f"HTTP/1.1 {response.status_code} {response.reason_phrase}\n"
        return start + body if options.include else body


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_renders_without_warnings(name):
    assert parse(name)[1] == ""


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_make_target_that_a_document_names_exists(name):
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"(?:``|\$ )make ([a-z-]+)", (ROOT / name).read_text()))
    assert [t for t in named if not re.search(rf"^(\S+ )*{t}( \S+)*:", makefile, re.M)] == []


def test_every_snippet_is_of_a_kind_that_is_executed():
    assert [snippet.text for snippet in SNIPPETS if snippet.kind is None] == []


def test_what_the_readme_shows_happens_from_top_to_bottom(site):
    names, shell = {}, Shell(site)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    failures = []
    for section in [README, *README.findall(nodes.section)]:
        site.start_over()
        if section.get("names") == ["commands and checks"]:
            LockableModel.lock(site.article, by=site.users["alice"])
        for node in section.children:
            if not isinstance(node, nodes.literal_block):
                continue
            snippet = Snippet(node)
            if snippet.kind == "settings":
                site.apply(snippet)
            elif snippet.kind == "console":
                shell.play(snippet)
            elif snippet.kind == "pycon":
                test = doctest.DocTestParser().get_doctest(
                    snippet.text, names, "README", "README.rst", 0
                )
                runner.run(test, out=failures.append, clear_globs=False)
                names.update(test.globs)
    assert "".join(failures) == ""


def play_edit_article(site):
    alice, bob = site.client("alice"), site.client("bob")
    token = token_in(alice.get("/articles/1/edit/"))
    told = bob.get("/articles/1/edit/")
    said = re.sub("<[^>]*>", "", told.text)
    assert (told.status_code, "until Nov. 22, 2026, 4 p.m." in said) == (423, True)
    typed = {"title": "Snow", "body": "Cold."}
    answer = bob.post("/articles/1/edit/", typed)
    assert (answer.status_code, site.stored()["title"]) == (423, "Sun")
    assert 'value="Snow"' in answer.text
    assert alice.post("/articles/1/edit/", {**typed, "lock_token": token}).status_code == 302
    assert site.stored()["title"] == "Snow"
    assert not LockableModel.is_locked(site.article)


def play_change(site):
    url, typed = "/articles/1/change/", {"title": "Hail", "body": "Loud."}
    alice, bob = site.client("alice"), site.client("bob")
    assert bob.post(url, typed).status_code == 428
    token = token_in(alice.get(url))
    assert bob.get(url).status_code == 423
    assert bob.post(url, typed).status_code == 423
    assert site.stored()["title"] == "Sun"
    assert alice.post(url, {**typed, "lock_token": token}).status_code == 302
    assert site.stored()["title"] == "Hail"
    assert not LockableModel.is_locked(site.article)


def play_publish(site):
    bob = site.client("bob")
    with locked(site.article):
        assert bob.post("/articles/1/publish/").status_code == 423
    assert site.stored()["published"] is False
    assert bob.post("/articles/2/publish/").status_code == 404
    assert bob.post("/articles/1/publish/").status_code == 302
    assert site.stored()["published"] is True
    assert not LockableModel.is_locked(site.article)


def play_admin(site):
    alice, bob = site.client("alice"), site.client("bob")
    url = "/admin/news/article/1/change/"
    typed = {"title": "Frost", "body": "White.", "lock_token": token_in(alice.get(url))}
    told = bob.get(url).text
    assert "is editing this" in told
    assert 'name="title"' not in told
    assert bob.post(url, typed | {"lock_token": ""}).status_code == 403
    assert alice.post(url, typed).status_code == 302
    assert site.stored()["title"] == "Frost"
    assert 'name="title"' in bob.get(url).text


def play_count_view(site):
    async_to_sync(site.tasks.count_view)(1)
    assert site.stored()["view_count"] == 1


def play_import_article(site):
    site.tasks.import_article(1, "Imported")
    assert site.stored()["title"] == "Imported"


def play_retitle(site):
    site.tasks.retitle(1, "Later")
    assert site.stored()["title"] == "Later"
    assert not LockableModel.is_locked(site.article)


PLAYS = {
    "EditArticle": play_edit_article,
    "change": play_change,
    "publish": play_publish,
    "ArticleAdmin": play_admin,
    "retitle": play_retitle,
    "count_view": play_count_view,
    "import_article": play_import_article,
}


@pytest.mark.parametrize("play", PLAYS.values(), ids=PLAYS)
def test_the_code_that_the_readme_puts_into_files_does_what_it_says(site, play):
    play(site)


def test_all_code_that_the_readme_puts_into_files_is_played():
    defined = re.findall(
        r"^(?:async )?(?:def|class) (\w+)",
        "".join(snippet.text for snippet in SNIPPETS if snippet.kind == "file"),
        re.M,
    )
    assert sorted(defined) == sorted(PLAYS)


def token_in(page):
    return re.search(r'name="lock_token" value="(\w+)"', page.text)[1]


def test_the_lunch_case_ends_as_the_readme_tells(site, now):
    url = "/articles/1/edit/"
    alice, bob = site.client("alice"), site.client("bob")
    first_tab = token_in(alice.get(url))
    now.tick(timedelta(hours=1))
    token = token_in(bob.get(url))
    saved = bob.post(url, {"title": "Bob's", "body": "B", "lock_token": token})
    assert saved.status_code == 302
    form = {"title": "Alice's", "body": "A", "lock_token": first_tab}
    assert (alice.post(url, form).status_code, site.stored()["title"]) == (412, "Bob's")
    second_tab = token_in(alice.get(url))
    assert second_tab != first_tab
    assert (alice.post(url, form).status_code, site.stored()["title"]) == (423, "Bob's")


@pytest.mark.parametrize(("state", "presented", "outcome"), table("lock of object"))
def test_the_decision_table_is_what_the_guard_decides(site, now, state, presented, outcome):
    for state_now in state.replace("none,", "none").split(" or "):
        for token_now in presented.replace("another,", "another").split(" or "):
            assert decide(site, now, state_now, token_now) == outcome.split(",")[0]


def decide(site, now, state, presented):
    """Save the article in that state with that token; return ``allowed``, or status and error."""
    stale = LockableModel.lock(site.article)["token"]
    LockableModel.unlock(site.article, stale)
    token = LockableModel.lock(site.article)["token"]
    if state == "none":
        LockableModel.unlock(site.article, token)
    if state == "expired":
        now.tick(timedelta(hours=1))
    tokens = {
        "its token": [token],
        "another": [stale],
        "a stale one of this object": [stale],
        "none": [],
    }[presented]
    try:
        if tokens:
            with holding(*tokens):
                site.article.save()
        else:
            site.article.save()
    except WriteRefused as error:
        return f"{error.status} {type(error).__name__}"
    finally:
        if state != "none":
            LockableModel.unlock(site.article, token)
    return "allowed"


@pytest.fixture
def with_options(site):
    """The README's project, with the options of its models in force."""
    site.apply([snippet for snippet in SNIPPETS if snippet.kind == "settings"][-1])
    return site


@pytest.mark.parametrize(("write", "needed"), table("write"))
def test_every_write_needs_the_lock_that_the_table_says(with_options, write, needed):
    names = names_for(write)
    assert needed in {"the article", "nothing"}
    if needed == "the article":
        before = everything()
        # A refusal leaves the transaction usable: what follows is in the same one.
        with pytest.raises(LockRequired):
            run(write, names)
        assert everything() == before
    before = everything()
    with locked(names["article"]) if needed == "the article" else nullcontext():
        run(write, names)
    assert everything() != before


def names_for(write):
    """Return what ``write`` speaks of; what it adds to the article is not there yet."""
    article, tag = Article.objects.get(pk=1), Tag.objects.create(name="Clouds")
    photo = Photo.objects.create(caption="Clouds")
    with suspended(reason="fixture"):
        if ".add(" not in write:
            article.tags.add(tag)
            photo = article.photo
    article.title, article.view_count = "Written past the lock", 7
    return {
        "Article": Article,
        "Correction": Correction,
        "article": article,
        "photo": photo,
        "section": article.section,
        "tag": tag,
    }


def run(write, names):
    code = compile(write, "README.rst", "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    call = types.FunctionType(code, names)
    async_to_sync(call)() if inspect.iscoroutinefunction(call) else call()


def everything():
    models = [Article, Article.tags.through, Correction]
    return [list(model.objects.order_by("pk").values()) for model in models]


@pytest.mark.parametrize(("request_line", "status", "otherwise"), table("request"))
def test_the_rest_api_answers_as_its_table_says(site, request_line, status, otherwise):
    method, path = request_line.split()
    client = site.client("alice")

    def answer(pk=1, token=None, model="article"):
        parts = {"<app>": "news", "<model>": model, "<id>": str(pk), "<token>": token or "f" * 32}
        url = "/lock_tokens/" + re.sub("<.*?>", lambda found: parts[found[0]], path)
        response = client.generic(method, url)
        if b'"token"' in response.content:
            assert response["Timeout"] == "Second-3600"
        return response.status_code

    found = {"no such object": answer(pk=2), "not lockable": answer(model="tag")}
    found["no lock"] = answer() if "<token>" in path else None
    token = LockableModel.lock(site.article)["token"]
    found["wrong token"] = found["locked"] = answer()
    if method == "POST":
        LockableModel.unlock(site.article, token)
    assert answer(token=token) == int(status)
    for code, reasons in re.findall(r"(\d+) ((?:(?!, \d).)+)", otherwise):
        assert {reason: found[reason] for reason in reasons.split(" or ")} == dict.fromkeys(
            reasons.split(" or "), int(code)
        )


def statements(operation):
    with CaptureQueriesContext(
        connection,
    ) as captured:
        operation()
    words = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE SAVEPOINT")
    return sum(not query["sql"].startswith(words) for query in captured)


def lock_refused(article):
    with pytest.raises(AlreadyLockedError):
        LockableModel.lock(article)


def test_the_costs_are_as_the_readme_says(site, now):
    site.settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["news.Article", "news.Tag"]}
    article, lock = site.article, LockableModel.lock
    other = Section(name="Sports")
    other.save()
    measured = {"take a free lock": statements(lambda: lock(article))}
    measured["be refused a lock"] = statements(lambda: lock_refused(article))
    now.tick(timedelta(hours=1))
    measured["take over an expired lock"] = statements(lambda: lock(article))
    now.tick(timedelta(hours=1))
    token = lock(article)["token"]
    measured["renew"] = statements(lambda: lock(article, token))
    measured["check"] = statements(lambda: LockableModel.check_lock(article, token))
    measured["is_locked"] = statements(lambda: LockableModel.is_locked(article))
    with holding(token):
        saved = statements(article.save)
        updated = statements(lambda: Article.objects.update(title="Rain"))
    measured["release"] = statements(lambda: LockableModel.unlock(article, token))
    created = statements(lambda: Tag.objects.create(name="New"))
    saved_other = statements(other.save)
    site.settings.LOCK_TOKENS = {}
    besides = {
        "save an enforced object with its token": saved - statements(article.save),
        "update any number of enforced objects at once": updated
        - statements(lambda: Article.objects.update(title="Rain")),
        "create an enforced object with an automatic key": created
        - statements(lambda: Tag.objects.create(name="New")),
        "save an object of any other model": saved_other - statements(other.save),
    }
    measured |= {f"{operation} (besides its own)": count for operation, count in besides.items()}
    told = {name: int(count) for names, count in table("operation") for name in names.split(", ")}
    if connection.vendor == "mysql":
        told["be refused a lock"] -= 1
        told["take over an expired lock"] -= 1
    assert told == measured


def test_the_settings_table_names_every_setting_and_its_default():
    documented = {key: ast.literal_eval(default) for key, default, _ in table("key")}
    assert documented == {key: spec.default for key, spec in SPECS.items()}


def test_the_options_table_names_every_option():
    assert sorted(option for option, _ in table("option")) == sorted(OPTIONS)


def test_every_error_is_told_with_its_status():
    text = " ".join(README.astext().split())
    told = {name: int(status) for status, name in re.findall(r"(4\d\d) ([A-Z][a-z]\w+)", text)}
    told |= {
        name: int(status)
        for name, status in re.findall(r"(\w+)(?: is answered)? with (4\d\d)", text)
    }
    errors = {
        name: error
        for name, error in vars(exceptions).items()
        if isinstance(error, type) and issubclass(error, exceptions.LockTokensError)
    }
    leaves = {name: error.status for name, error in errors.items() if not error.__subclasses__()}
    assert told == leaves


def test_the_readme_names_every_check():
    sources = "".join(path.read_text() for path in PACKAGE.rglob("checks.py"))
    known = re.findall(r'"lock_tokens\.([EW]\d+)"', sources)
    told = [text for text in literals() if re.fullmatch(r"[EW]\d+", text)]
    assert sorted(told) == sorted(set(known))


def test_the_readme_shows_every_command_and_each_takes_a_database():
    shown = {name for s in SNIPPETS for name in re.findall(r"manage\.py (\w+)", s.text)}
    commands = {path.stem for path in PACKAGE.glob("management/commands/[a-z]*.py")}
    assert shown - {"migrate", "check"} == commands
    for name in commands:
        parser = load_command_class("lock_tokens", name).create_parser("manage.py", name)
        assert "--database" in parser.format_help()


def test_the_versions_are_those_of_the_classifiers():
    metadata = (ROOT / "pyproject.toml").read_text()
    supported = dict(table("supported"))
    for name, classifier in (
        ("Python", "Programming Language :: Python"),
        ("Django", "Framework :: Django"),
    ):
        versions = re.findall(rf'"{classifier} :: (\d+\.\d+)"', metadata)
        assert supported[name].split(", ") == versions


def test_what_the_readme_links_to_exists_and_is_every_page_that_is_written():
    linked = {node["refuri"] for node in README.findall(nodes.reference)}
    pages = {f"docs/{path.name}" for path in ROOT.glob("docs/*.rst")}
    # These are put together from the documents beside the README.
    assert linked == pages - {"docs/changes.rst", "docs/index.rst"}


def literals(section_name=None):
    for node in README.findall(nodes.literal):
        if section_name is None or section_name in node.parent.parent.get("names", ()):
            yield node.astext()


def test_the_readme_names_every_signal():
    known = {name for name, value in vars(signals).items() if isinstance(value, Signal)}
    named = set(literals("signals, logging, tests"))
    assert known <= named


def test_every_module_that_the_readme_names_exists():
    dotted = {text for text in literals() if re.fullmatch(r"lock_tokens(\.[a-z_]+)+", text)}
    assert dotted
    for name in dotted:
        importlib.import_module(name)
