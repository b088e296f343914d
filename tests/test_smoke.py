"""The wiring is live: an enforced save without a token is refused, with one it is allowed."""

import pytest

from lock_tokens.enforcement import locked
from lock_tokens.exceptions import LockRequired
from tests.app.models import Article, ArticleProxy, Bistro, Place, Restaurant, Slug, Uuid

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def enforced(settings):
    settings.LOCK_TOKENS = {
        "ENFORCED_MODELS": ["app.Article", "app.Restaurant", "app.Slug", "app.Uuid"]
    }


@pytest.mark.parametrize(
    "make",
    [
        lambda: Article.objects.create(title="a"),
        lambda: ArticleProxy.objects.create(title="a"),
        lambda: Restaurant.objects.create(name="a"),
        lambda: Bistro.objects.create(name="a"),
        lambda: Place.objects.get(pk=Restaurant.objects.create(name="a").pk),
        lambda: Slug.objects.create(slug="A/b c"),
        lambda: Uuid.objects.create(name="a"),
    ],
)
def test_save_and_delete(make, django_assert_num_queries):
    obj = make()
    with pytest.raises(LockRequired):
        obj.save()
    with pytest.raises(LockRequired):
        obj.delete()
    with pytest.raises(LockRequired):
        type(obj)(pk=obj.pk).save(force_update=True)
    with locked(obj):
        obj.save()
        obj.delete()
    obj = make()


def test_counts(django_assert_num_queries):
    Article(title="x").save()
    with django_assert_num_queries(1):
        a = Article.objects.create(title="a")
    with django_assert_num_queries(1):
        Uuid.objects.create(name="a")
    with locked(a), django_assert_num_queries(2):
        a.save()
    p = Place.objects.create(name="p")
    p.save()
    Slug(slug="x").save()
    with pytest.raises(LockRequired):
        Slug(slug="x").save()
