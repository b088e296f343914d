"""What is enforced, and that a setting that cannot be applied protects everything."""

from contextlib import nullcontext

import pytest
from django.apps import apps
from django.contrib.auth.models import Group
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.test import override_settings

from lock_tokens.enforcement import suspended
from lock_tokens.enforcement.policy import Policy, families, families_of, strictest
from lock_tokens.exceptions import LockRequired
from tests.app.models import (
    Article,
    ArticleProxy,
    Bistro,
    Correction,
    Line,
    Museum,
    Page,
    Place,
    Restaurant,
    Story,
    StoryProxy,
)
from tests.enforcement.roads import FREE, World, all_roads, clear, snapshot


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


@pytest.mark.django_db
class TestEveryRoadWhileSettingsAreWrong:
    WRONG = {"ENFORCED_MODELS": {"app.Correction": {"VIA": "storey"}}}
    MESSAGE = (
        "Nothing can be written: LOCK_TOKENS['ENFORCED_MODELS']['app.Correction']['VIA'] must be "
        "the name of a foreign key, or of several in turn such as 'order.customer', not 'storey'."
    )

    @pytest.fixture
    def play(self, subtests, settings):
        """Call a function with each road, in a subtest and a new world."""

        def play(test):
            for road in [*all_roads(), *FREE]:
                with subtests.test(str(road)):
                    settings.LOCK_TOKENS = {}
                    clear()
                    test(road, World())

        return play

    @pytest.mark.parametrize("block", [nullcontext, lambda: suspended(reason="the test")])
    def test_is_refused_whatever_is_named_and_whatever_is_suspended(self, play, settings, block):
        def refused(road, world):
            before = snapshot()
            settings.LOCK_TOKENS = self.WRONG
            with pytest.raises(ImproperlyConfigured) as caught, transaction.atomic(), block():
                road.take(world)
            assert str(caught.value) == self.MESSAGE
            assert snapshot() == before

        play(refused)

    def test_is_open_again_once_they_are_right(self, play):
        def open_again(road, world):
            before = snapshot()
            with override_settings(LOCK_TOKENS=self.WRONG):
                pass
            road.take(world)
            assert snapshot() != before

        play(open_again)

    def test_nothing_is_read_in_vain(self, settings, article):
        settings.LOCK_TOKENS = self.WRONG
        assert Article.objects.get() == article
        assert list(Article.objects.filter(title="A")) == [article]


# What protects the rows of others -------------------------------------------------------------


def ties(model):
    return [(tie.path, tie.protector) for family in families_of(model) for tie in family.ties]


@pytest.mark.parametrize(
    ("options", "path", "end"),
    [
        ({"app.Correction": {"VIA": "story"}}, ("story",), Story),
        ({"app.Reply": {"VIA": "correction.story"}}, ("correction", "story"), Story),
        ({"app.Reply": {"VIA": "correction__story"}}, ("correction", "story"), Story),
        ({"app.Reply": {"VIA": "correction"}}, ("correction",), Correction),
        (
            {"app.Reply": {"VIA": "correction"}, "app.Correction": {"VIA": "story"}},
            ("correction", "story"),
            Story,
        ),
        ({"app.Remark": {"VIA": "proxy"}}, ("proxy",), StoryProxy),
        ({"app.RemarkProxy": {"VIA": "restaurant"}}, ("restaurant",), Restaurant),
    ],
)
def test_via_is_followed_to_its_end(settings, options, path, end):
    enforce(settings, options)
    model = apps.get_model(next(iter(options)))
    assert ties(model) == [(path, end)]


def test_a_model_with_via_has_no_lock_of_its_own_to_begin_with(settings):
    enforce(settings, {"app.Correction": {"VIA": "story"}})
    (family,) = families_of(Correction)
    assert family.policies == ()
    assert families_of(Story) == []


def test_many_to_many_relations_of_enforced_models_are_tied_to_them(settings):
    enforce(settings, ["app.Story"])
    assert ties(Story.tags.through) == [(("story",), Story)]
    assert ties(Story.authors.through) == [(("story",), Story)]
    assert ties(Story.related.through) == [(("from_story",), Story), (("to_story",), Story)]
    enforce(settings, {"app.Story": {"EXEMPT_FIELDS": ["tags", "authors", "related"]}})
    assert ties(Story.tags.through) == ties(Story.authors.through) == []
    assert ties(Story.related.through) == []


class TestExemptFields:
    @pytest.mark.parametrize("name", ["section", "section_id"])
    def test_a_foreign_key_is_meant_by_either_name(self, name):
        policy = Policy(Story, exempt_fields=frozenset({name}))
        assert policy.exempts(["section"])
        assert policy.exempts(["section_id"])
        assert not policy.exempts(["section", "photo"])

    def test_no_fields_at_all_are_not_exempt(self):
        policy = Policy(Story, exempt_fields=frozenset({"views"}))
        assert not policy.exempts(None)
        assert not policy.exempts([])

    def test_names_of_relations_do_no_harm_to_columns(self):
        policy = Policy(Group, exempt_fields=frozenset({"user_set"}))
        assert not policy.exempts(["name"])
