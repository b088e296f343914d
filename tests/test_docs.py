"""The pages of docs/ are true: their examples run, their tables say what the code says."""

import ast
import doctest
import io
import re
from contextlib import nullcontext
from pathlib import Path

import pytest
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
from django.db.models import F
from django.dispatch import Signal, receiver
from django.forms import modelform_factory
from django.http import HttpResponse
from django.urls import path
from docutils import nodes
from docutils.core import publish_doctree

import lock_tokens
from lock_tokens.checks import OPTIONS
from lock_tokens.enforcement import locked
from lock_tokens.exceptions import LockRequired
from lock_tokens.models import LockableModel
from lock_tokens.signals import write_refused
from tests.app import models as app
from tests.enforcement import roads, table
from tests.news import models as news

DOCS = Path(__file__).resolve().parents[1] / "docs"
# Those that Sphinx puts together from other files are not read without it.
PAGES = sorted(p.name for p in DOCS.glob("*.rst") if p.name not in {"changes.rst", "index.rst"})
CHECKS = "".join(p.read_text() for p in Path(lock_tokens.__file__).parent.rglob("checks.py"))


def parse(name):
    warnings = io.StringIO()
    overrides = {"report_level": 1, "warning_stream": warnings, "_disable_config": True}
    page = DOCS / name
    document = publish_doctree(page.read_text(), str(page), settings_overrides=overrides)
    return document, warnings.getvalue()


def blocks(name, language):
    for block in parse(name)[0].findall(nodes.literal_block):
        if block["classes"][1:] == [language]:
            yield block.astext() + "\n"


def table_of(name, *heading):
    """Return the rows of the table that begins with ``heading``, without their markup."""
    for found in parse(name)[0].findall(nodes.table):
        rows = [
            [entry.astext().replace("\n", " ") for entry in row.findall(nodes.entry)]
            for row in found.findall(nodes.row)
        ]
        if rows[0] == [*heading]:
            return rows[1:]
    raise AssertionError(f"{name} has no table of {heading}")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_renders_without_warnings_where_there_is_no_sphinx(name):
    assert parse(name)[1] == ""


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_links_to_exists(name):
    document, _ = parse(name)
    linked = [node["refuri"] for node in document.findall(nodes.reference)]
    here = [uri for uri in linked if not uri.startswith("https://")]
    assert [uri for uri in here if not (DOCS / uri).is_file()] == []


@pytest.mark.parametrize("name", PAGES)
def test_the_checks_that_a_page_names_exist(name):
    named = set(re.findall(r"``([EW]\d{3})``", (DOCS / name).read_text()))
    assert {each for each in named if f'"lock_tokens.{each}"' not in CHECKS} == set()


class TestTheTableOfRoads:
    PAGE = table.PAGE.read_text()

    def test_is_the_one_that_the_tests_play(self):
        assert table.generated(self.PAGE) == self.PAGE, "run python -m tests.enforcement.table"

    def test_is_written_anew_when_a_road_is_added(self, monkeypatch):
        road = roads.Road("story.delete()\nwait(story.anew())", ("story", "other_story"))
        monkeypatch.setitem(roads.REFUSED, "A new group", [road])
        monkeypatch.setattr(roads, "FREE", [road])
        monkeypatch.setattr(roads, "UNCOVERED", [("story.sql()", "of its own")])
        written = table.generated(self.PAGE)
        cells = "   * - | ``story.delete()``\n       | ``await story.anew()``\n"
        assert f"{cells}     - the story and the other story\n" in written
        assert written.count(cells) == 2
        assert "   * - ``story.sql()``\n     - of its own\n" in written

    def test_has_the_settings_that_the_roads_are_played_under(self):
        [block] = [b for b in blocks("what_is_enforced.rst", "python") if "LOCK_TOKENS" in b]
        assert settings_in(block) == {"ENFORCED_MODELS": roads.ENFORCED}


def settings_in(block):
    [assignment] = ast.parse(block).body
    assert assignment.targets[0].id == "LOCK_TOKENS"
    return ast.literal_eval(assignment.value)


@pytest.mark.parametrize(
    ("name", "models"), [("what_is_enforced.rst", app), ("options.rst", news)], ids=["app", "news"]
)
def test_the_models_of_the_examples_are_those_that_are_tested(name, models):
    [listing] = [block for block in blocks(name, "python") if block.startswith("class ")]
    source = {cls.name: cls for cls in classes_in(Path(models.__file__).read_text())}
    for cls in classes_in(listing):
        known = {ast.unparse(line) for line in source[cls.name].body}
        shown = [ast.unparse(line) for line in cls.body if not isinstance(line, ast.Expr)]
        assert [line for line in shown if line not in known] == []
        assert ast.unparse(cls).splitlines()[0] == ast.unparse(source[cls.name]).splitlines()[0]


def classes_in(source):
    return [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]


NAMES = {
    "what_is_enforced.rst": {"locked": locked, **vars(app)},
    "options.rst": {
        **vars(news),
        "F": F,
        "Group": Group,
        "LockableModel": LockableModel,
        "User": User,
        "locked": locked,
        "receiver": receiver,
        "write_refused": write_refused,
    },
}


@pytest.fixture
def receivers(monkeypatch):
    """Forget the receivers that a page connects."""
    fresh = Signal()
    for name in ("receivers", "sender_receivers_cache"):
        monkeypatch.setattr(write_refused, name, getattr(fresh, name))


@pytest.mark.django_db(transaction=True, reset_sequences=True)
@pytest.mark.parametrize("name", NAMES)
def test_the_examples_of_a_page_run_from_top_to_bottom(name, settings, receivers):
    names, failures = dict(NAMES[name]), []
    runner, parser = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS), doctest.DocTestParser()
    for block in parse(name)[0].findall(nodes.literal_block):
        text = block.astext() + "\n"
        if not connection.features.supports_update_conflicts_with_target:
            text = re.sub(r"\.\.\. +unique_fields=.*\n", "", text)
        if text.startswith("LOCK_TOKENS"):
            settings.LOCK_TOKENS = settings_in(text)
        elif "pycon" in block["classes"]:
            test = parser.get_doctest(text, names, name, name, 0)
            runner.run(test, out=failures.append, clear_globs=False)
            names = test.globs
    assert "".join(failures) == ""
    assert runner.tries > 10


@pytest.mark.django_db
def test_a_form_writes_its_relations_as_the_page_says(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": roads.ENFORCED}
    [example] = [b for b in blocks("what_is_enforced.rst", "python") if "form.save()" in b]
    tag = app.Tag.objects.create(name="a")
    form_class = modelform_factory(app.Story, fields=["slug", "tags"])
    with pytest.raises(LockRequired):
        form_class({"slug": "b", "tags": [tag.pk]}).save()
    form = form_class({"slug": "a", "tags": [tag.pk]})
    exec(example, {"form": form, "transaction": transaction})  # noqa: S102
    assert [*app.Story.objects.get(slug="a").tags.all()] == [tag]


@pytest.mark.django_db
def test_a_delete_of_the_models_own_needs_the_lock_before_it_does_anything(monkeypatch, settings):
    begun = []
    monkeypatch.setattr(app.Archived, "delete", begun.append)
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Archived"]}
    row = app.Archived.objects.create(name="a")
    with pytest.raises(LockRequired):
        row.delete()
    assert begun == []
    with locked(row):
        row.delete()
    assert begun == [row]


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["correction.article", "correction__article", "correction"])
def test_a_path_leads_to_an_object_that_need_not_be_enforced_itself(path, settings):
    article = news.Article.objects.create()
    reply = news.Reply.objects.create(correction=article.correction_set.create())
    via = {"news.Correction": {"VIA": "article"}, "news.Reply": {"VIA": path}}
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": via}
    with locked(reply), locked(reply.correction), pytest.raises(LockRequired):
        reply.save()
    with locked(article):
        reply.save()


@pytest.fixture(params=[2, 90])
def world(request, db):
    """So many stories, each with a tag, the photo, a correction and a reply; and groups."""
    photo, tags = app.Photo.objects.create(), [app.Tag.objects.create(), app.Tag.objects.create()]
    stories = [app.Story.objects.create(slug=str(n), photo=photo) for n in range(request.param)]
    corrections = [app.Correction.objects.create(story=story) for story in stories]
    replies = [app.Reply.objects.create(correction=correction) for correction in corrections]
    tags[0].story_set.set(stories)
    stories[0].views += 1
    # Django asks for these once.
    ContentType.objects.get_for_models(app.Story, app.Correction, app.Reply, Group)
    return {
        "photo": photo,
        "tags": tags,
        "stories": stories,
        "story": stories[0],
        "corrections": [app.Correction(story=story) for story in stories],
        "correction": corrections[0],
        "reply": replies[0],
        "groups": [Group.objects.create(name=n) for n in range(request.param)],
        "Group": Group,
        **vars(app),
    }


class TestTheTableOfCosts:
    @pytest.fixture
    def costs(self, settings, count_statements):
        """Return how many statements a write costs more than when nothing is enforced."""

        def measure(write, names, *, locks):
            counts = []
            for enforced in (roads.ENFORCED, {}):
                settings.LOCK_TOKENS = {"ENFORCED_MODELS": enforced}
                with transaction.atomic(), locked(*locks) if locks else nullcontext():
                    counts.append(count_statements(lambda: eval(write, dict(names))))  # noqa: S307
                    transaction.set_rollback(True)
            return counts[0] - counts[1]

        return measure

    @pytest.mark.parametrize(
        ("write", "told"), table_of("what_is_enforced.rst", "write", "statements")
    )
    def test_is_measured_however_many_rows_there_are(self, write, told, costs, world):
        code, exempt, _ = write.partition(" of exempt fields, without a token")
        locks = [] if exempt else [*world["stories"], *world["groups"]]
        assert costs(code, world, locks=locks) == int(told)


class TestTheOptionsPage:
    def test_has_a_section_for_every_option(self):
        document, _ = parse("options.rst")
        titles = [title.astext() for title in document.findall(nodes.title)]
        assert sorted(titles[1:]) == sorted(OPTIONS)

    @pytest.mark.django_db
    def test_names_all_that_the_signal_carries(self, settings, receivers):
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": {"app.Tag": {"REPORT_ONLY": True}}}
        sent = []
        write_refused.connect(lambda **kwargs: sent.append(kwargs), weak=False)
        app.Tag.objects.create(name="a").save()
        told = {name for name, _ in table_of("options.rst", "argument", "value")}
        assert told | {"signal"} == set(sent[0])

    @pytest.mark.django_db
    def test_shows_the_line_that_is_logged(self, settings, caplog, client):
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": {"news.Article": {"REPORT_ONLY": True}}}
        settings.ROOT_URLCONF = __name__
        article = news.Article.objects.create()
        client.get(f"/articles/{article.pk}/")
        [shown] = re.findall(r"::\n\n    (LockRequired: .*)\n", (DOCS / "options.rst").read_text())
        line = save_in_view.__code__.co_firstlineno + 1
        expected = shown.replace("/srv/site/news/views.py:41", f"{__file__}:{line}")
        assert caplog.messages == [
            expected.replace("Article 1 ", f"Article {article.pk} ").replace(
                "/articles/1/", f"/articles/{article.pk}/"
            )
        ]


def save_in_view(request, pk):
    news.Article.objects.get(pk=pk).save()
    return HttpResponse("saved")


urlpatterns = [path("articles/<int:pk>/", save_in_view)]
