"""The catalogues: complete, of the texts that the code has, compiled, and what people read.

After a change of the texts ``make messages`` brings the catalogues up to date (with GNU gettext);
what is then empty or marked fuzzy is to be translated, and ``make messages`` run again.
"""

import gettext
import io
import re
from pathlib import Path

import django
import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from django.contrib.admin import AdminSite
from django.contrib.admin.sites import all_sites
from django.urls import include, path, reverse
from django.utils import translation
from django.utils.translation import ngettext, override, to_locale
from django.utils.translation.template import templatize

import lock_tokens
from lock_tokens import pages
from lock_tokens.admin import LockableModelAdmin, LockTokenAdmin
from lock_tokens.exceptions import AlreadyLockedError, locally
from lock_tokens.models import LockToken
from tests.app.models import Article

PACKAGE = Path(lock_tokens.__file__).parent
LOCALE = PACKAGE / "locale"
LANGUAGES = ["ar", "de", "es", "fr", "ja", "nl", "pl", "pt-br"]
KEYWORDS = {
    **DEFAULT_KEYWORDS,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext_lazy": (1, 2),
    "pgettext_lazy": DEFAULT_KEYWORDS["pgettext"],
}
PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|%[a-z]|\{\w*\}")

site = AdminSite(name="desk")
site.register(LockToken, LockTokenAdmin)
site.register(Article, LockableModelAdmin)
# What a site has registered the REST API may lock, but not in the tests of other modules.
all_sites.discard(site)
urlpatterns = [
    path("admin/", site.urls),
    path("articles/", include("tests.app.views")),
]

in_each_language = pytest.mark.parametrize("language", LANGUAGES)


def texts_of(path, source):
    """Return the ids of the texts that ``source``, Python or a template, has to be translated."""
    if path.suffix != ".py":
        source = templatize(source, origin=str(path))
    found = extract("python", io.BytesIO(source.encode()), KEYWORDS, options={"encoding": "utf-8"})
    return {ids for _line, ids, _notes, _context in found}


def texts_of_package():
    sources = [*PACKAGE.rglob("*.py"), *PACKAGE.glob("templates/**/*.html")]
    texts = [texts_of(source, source.read_text("utf-8")) for source in sources]
    return set().union(*texts)


def catalogue_path(language, suffix=".po"):
    return LOCALE / to_locale(language) / "LC_MESSAGES" / f"django{suffix}"


def catalogue(language):
    with catalogue_path(language).open("rb") as file:
        return read_po(file, locale=to_locale(language), abort_invalid=True)


def forms(text):
    return [text] if isinstance(text, str) else list(text)


def faults(catalogue, texts):
    """Return what is wrong with ``catalogue`` as the one of ``texts``."""
    messages = [message for message in catalogue if message.id]
    known = {message.id for message in messages}
    yield from (f"missing: {text}" for text in texts - known)
    yield from (f"not in the code: {text}" for text in known - texts)
    yield from (f"obsolete: {text}" for text in catalogue.obsolete)
    for message in messages:
        yield from (f"{fault}: {message.id}" for fault in faults_of(message, catalogue.num_plurals))


def faults_of(message, plurals):
    translations = forms(message.string)
    if message.fuzzy:
        yield "fuzzy"
    if not all(translations):
        yield "untranslated"
    elif len(translations) != (plurals if message.pluralizable else 1):
        yield "plural forms"
    elif any(placeholders(text) != placeholders(forms(message.id)[-1]) for text in translations):
        yield "placeholders"


def placeholders(text):
    return sorted(PLACEHOLDER.findall(text))


def is_said_in_words(text):
    """Tell whether ``text`` has so many words of its own that no two languages share them."""
    return len(re.findall(r"[a-z]{2,}", PLACEHOLDER.sub("", text))) > 1


def test_there_is_a_catalogue_for_each_language_and_no_other():
    found = {path.name for path in LOCALE.iterdir()}
    assert found == {to_locale(language) for language in LANGUAGES}


@in_each_language
def test_a_catalogue_is_complete_and_has_the_texts_of_the_code(language):
    assert list(faults(catalogue(language), texts_of_package())) == []


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("", "missing: Free in {time}"),
        ('msgid "Free in {time}"\nmsgstr ""', "untranslated: Free in {time}"),
        ('#, fuzzy\nmsgid "Free in {time}"\nmsgstr "Frei in {time}"', "fuzzy: Free in {time}"),
        ('msgid "Free in {time}"\nmsgstr "Frei in {zeit}"', "placeholders: Free in {time}"),
        (
            'msgid "Free in {time}"\nmsgstr "Frei in {time}"\n\nmsgid "Gone"\nmsgstr "Weg"',
            "not in the code: Gone",
        ),
        (
            'msgid "Free in {time}"\nmsgstr "Frei in {time}"\n\n#~ msgid "Gone"\n#~ msgstr "Weg"',
            "obsolete: Gone",
        ),
    ],
)
def test_a_fault_of_a_catalogue_is_found(entry, fault):
    broken = read_po(io.StringIO(entry), locale="de")
    assert list(faults(broken, {"Free in {time}"})) == [fault]


def test_a_plural_that_lacks_a_form_is_found():
    entry = 'msgid "%(n)s lock"\nmsgid_plural "%(n)s locks"\nmsgstr[0] "%(n)s blokada"\n'
    broken = read_po(io.StringIO(entry), locale="pl")
    texts = {("%(n)s lock", "%(n)s locks")}
    assert list(faults(broken, texts)) == [f"untranslated: {next(iter(texts))}"]


@pytest.mark.parametrize(
    ("name", "source", "texts"),
    [
        ("a.py", "_('One') + gettext_lazy('Two ' 'three')", {"One", "Two three"}),
        ("a.py", "ngettext('%(n)s lock', '%(n)s locks', n)", {("%(n)s lock", "%(n)s locks")}),
        ("a.py", "translate('One') + _(error.title)", set()),
        ("a.html", "{% load i18n %}One {% translate 'Two' %}", {"Two"}),
        (
            "a.html",
            "{% blocktranslate trimmed %}\n By {{ by }}\n until\n{% endblocktranslate %}",
            {"By %(by)s until"},
        ),
    ],
)
def test_the_texts_of_python_and_templates_are_found(name, source, texts):
    assert texts_of(Path(name), source) == texts


@in_each_language
def test_what_is_compiled_is_the_catalogue(language):
    with catalogue_path(language, ".mo").open("rb") as file:
        compiled = read_mo(file)
    source = catalogue(language)
    assert compiled_texts(compiled) == compiled_texts(source)
    assert compiled.plural_expr == source.plural_expr


def compiled_texts(catalogue: Catalog):
    return {tuple(forms(each.id)): forms(each.string) for each in catalogue if each.id}


@in_each_language
def test_no_sentence_is_left_in_english(language):
    same = [
        message.id
        for message in catalogue(language)
        for text in forms(message.id)
        if is_said_in_words(text) and text in forms(message.string)
    ]
    assert same == []


@in_each_language
def test_words_that_django_has_too_stay_those_of_django(language):
    """What an application translates holds for the whole project, Django's own pages too."""
    ours = {each.id: each.string for each in catalogue(language) if each.id}
    django_s = [
        gettext.translation("django", Path(django.__file__).parent / where, [to_locale(language)])
        for where in ("conf/locale", "contrib/admin/locale")
    ]
    for text, translated in ours.items():
        if isinstance(text, tuple):
            continue
        known = {each.gettext(text) for each in django_s} - {text}
        assert not known or translated in known, text


@pytest.mark.parametrize(
    ("language", "count", "text"),
    [
        ("pl", 1, "Zwolniono 1 blokadę: a."),
        ("pl", 3, "Zwolniono 3 blokady: a."),
        ("pl", 12, "Zwolniono 12 blokad: a."),
        ("pl", 22, "Zwolniono 22 blokady: a."),
        ("fr", 0, "0 verrou libéré\N{NO-BREAK SPACE}: a."),
        ("pt-br", 2, "2 bloqueios liberados: a."),
        ("ja", 2, "2 個のロックを解除しました: a。"),
        ("ar", 2, "فُكّ قفلان (2): a."),
        ("ar", 5, "فُكّت 5 أقفال: a."),
        ("ar", 11, "فُكّ 11 قفلًا: a."),
        ("ar", 100, "فُكّ 100 قفل: a."),
    ],
)
def test_a_number_takes_the_plural_of_its_language(language, count, text):
    one, many = "Released %(count)s lock: %(names)s.", "Released %(count)s locks: %(names)s."
    with override(language):
        assert ngettext(one, many, count) % {"count": count, "names": "a"} == text


@pytest.fixture
def in_language_of_browser(settings):
    """Let the pages be in the language that the browser asks for."""
    sessions, *others = settings.MIDDLEWARE
    locales = "django.middleware.locale.LocaleMiddleware"
    settings.MIDDLEWARE = [sessions, locales, *others]
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"]}
    # The middleware leaves its language to the thread, and so to the next test.
    with override("en", deactivate=True):
        yield


@in_each_language
@pytest.mark.django_db
@pytest.mark.urls(__name__)
@pytest.mark.usefixtures("in_language_of_browser")
def test_a_refusal_is_told_in_the_language_and_with_its_dates(client, article, lock, language):
    lock(article)
    headers = {"Accept": "text/html", "Accept-Language": language}
    response = client.post(reverse("articles:write", args=[article.pk]), headers=headers)
    page = response.content.decode()
    with override(language):
        title, since = translation.gettext("Locked"), locally(LockToken.objects.get().locked_at)
    with override("en"):
        since_in_english = locally(LockToken.objects.get().locked_at)
    direction = "rtl" if language == "ar" else "ltr"
    assert f'<html lang="{language}" dir="{direction}">' in page
    assert f"<h1>{title}</h1>" in page
    assert since in page
    assert "ocked" not in page
    assert since_in_english not in page


@in_each_language
@pytest.mark.django_db
@pytest.mark.urls(__name__)
@pytest.mark.usefixtures("in_language_of_browser")
def test_the_admin_of_locks_is_in_the_language(admin_client, article, lock, language):
    lock(article)
    address = reverse("admin:lock_tokens_locktoken_changelist")
    page = admin_client.get(address, headers={"Accept-Language": language}).content.decode()
    with override(language):
        holder, live = translation.gettext("holder"), translation.gettext("Live")
    assert holder.lower() in page.lower()
    assert live in page
    assert "Holder" not in page
    assert "Release selected" not in page


@in_each_language
@pytest.mark.django_db
@pytest.mark.urls(__name__)
@pytest.mark.usefixtures("in_language_of_browser")
def test_another_editor_is_told_in_the_language_who_edits(
    admin_client, article, alice, lock, language
):
    lock(article, by=alice)
    address = reverse("admin:app_article_change", args=[article.pk])
    page = admin_client.get(address, headers={"Accept-Language": language}).content.decode()
    with override(language):
        told = translation.gettext(
            "{by} is editing this: since {since}, until {until} unless the lock is renewed."
        )
        since = locally(LockToken.objects.get().locked_at)
    assert told.partition("{since}")[2].partition("{until}")[0] in page
    assert since in page
    assert "is editing this" not in page
    assert "unless" not in page


@in_each_language
def test_what_the_script_of_a_page_says_is_in_the_language(language):
    with override(language):
        said = {text: translation.gettext(text) for text in pages.MESSAGES.values()}
    assert [text for text, translated in said.items() if text == translated] == []


@in_each_language
def test_an_error_begins_with_a_capital_where_the_language_has_them(language):
    error = AlreadyLockedError(model_label=Article._meta.label, pk=7)
    with override(language):
        text = error.tell(None)
    assert text[:1] == text[:1].upper()
    assert "7" in text
    assert text.endswith((".", "。"))
