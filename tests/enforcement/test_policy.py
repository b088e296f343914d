"""What is enforced, and that a setting that cannot be applied protects everything."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from lock_tokens.enforcement.policy import Policy, families, families_of, strictest
from lock_tokens.exceptions import LockRequired
from tests.app.models import (
    Article,
    ArticleProxy,
    Bistro,
    Line,
    Museum,
    Page,
    Place,
    Restaurant,
)


def enforce(settings, models):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": models}


def test_a_list_of_labels_is_a_dict_of_empty_options(settings):
    enforce(settings, ["app.Article"])
    as_list = families()
    enforce(settings, {"app.Article": {}})
    assert families() == as_list == {Article: families_of(Article)[0]}
    assert as_list[Article].policies == (Policy(Article),)


def test_labels_are_found_in_any_case_as_django_finds_them(settings):
    enforce(settings, ["app.article"])
    assert list(families()) == [Article]


def test_a_proxy_names_its_concrete_model(settings):
    enforce(settings, ["app.ArticleProxy"])
    assert families()[Article].above(Article) == families()[Article].above(ArticleProxy) != ()


def test_options_become_a_policy(settings):
    options = {"POLICY": "respect", "REPORT_ONLY": True, "EXEMPT_FIELDS": ["title"]}
    enforce(settings, {"app.Article": options})
    expected = Policy(Article, respect=True, report_only=True, exempt_fields=frozenset({"title"}))
    assert families()[Article].policies == (expected,)


def test_the_models_of_a_family_know_which_policies_they_are_under(settings):
    enforce(settings, ["app.Restaurant"])
    (family,) = families_of(Bistro)
    assert family.root is Place
    assert [policy.model for policy in family.above(Bistro)] == [Restaurant]
    assert [policy.model for policy in family.above(Restaurant)] == [Restaurant]
    assert family.above(Place) == family.above(Museum) == ()
    assert [policy.model for policy in family.beside(Museum)] == [Restaurant]


def test_the_nearest_policy_comes_first(settings):
    enforce(settings, ["app.Place", "app.Bistro"])
    (family,) = families_of(Bistro)
    assert [policy.model for policy in family.above(Bistro)] == [Bistro, Place]


def test_an_object_under_several_policies_is_under_the_strictest():
    lax = Policy(Bistro, respect=True, report_only=True, exempt_fields=frozenset({"name", "stars"}))
    strict = Policy(Place, exempt_fields=frozenset({"name"}))
    assert strictest((lax, lax)) == lax
    assert strictest((lax, strict)) == Policy(Bistro, exempt_fields=frozenset({"name"}))


@pytest.mark.django_db
def test_a_lax_child_is_no_way_into_a_strict_parent(settings):
    enforce(settings, {"app.Place": {}, "app.Bistro": {"REPORT_ONLY": True}})
    bistro = Bistro.objects.create(name="old")
    with pytest.raises(LockRequired):
        bistro.save()


def test_a_model_that_is_not_named_is_in_no_family(settings):
    enforce(settings, ["app.Article"])
    assert families_of(Page) == families_of(Line) == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            {"ENFORCED_MODELS": ["app.Artcle"]},
            "LOCK_TOKENS['ENFORCED_MODELS'] names 'app.Artcle', which is no installed model.",
        ),
        (
            {"ENFORCED_MODELS": {"app.Article": {"POLICY": "requier"}}},
            "LOCK_TOKENS['ENFORCED_MODELS']['app.Article']['POLICY'] must be one of "
            "'require', 'respect', not 'requier'.",
        ),
        (
            {"ENFORCED_MODELS": 5},
            "LOCK_TOKENS['ENFORCED_MODELS'] must be a list of model labels such as "
            '"news.Article", or a dict of labels and their options, not 5.',
        ),
        ({"ENFORCE_MODELS": ["app.Article"]}, "LOCK_TOKENS has no key 'ENFORCE_MODELS'."),
        (["app.Article"], "LOCK_TOKENS must be a dict, not ['app.Article']."),
    ],
)
@pytest.mark.django_db(transaction=True)
def test_settings_that_cannot_be_applied_let_nothing_be_written(settings, setting, message):
    article, page = Article.objects.create(title="old"), Page.objects.create()
    settings.LOCK_TOKENS = setting
    for write in (article.save, article.delete, page.save, page.delete):
        with pytest.raises(ImproperlyConfigured) as caught:
            write()
        assert str(caught.value) == f"Nothing can be written: {message}"
    enforce(settings, ["app.Article"])
    page.save()
    with pytest.raises(LockRequired):
        article.save()
