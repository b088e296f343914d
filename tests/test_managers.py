"""Finding the locks of objects, and breaking them."""

from datetime import datetime, timedelta, timezone

import pytest
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from freezegun import freeze_time

from lock_tokens.managers import LockableModelManager, LockTokenManager
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.targets import root_of
from tests.app.models import Article, ArticleProxy, Bistro, Chapter, Page, Place, Slug

pytestmark = pytest.mark.django_db

TOMORROW = datetime.now(timezone.utc) + timedelta(days=1)


def test_the_managers_are_the_public_ones():
    assert isinstance(LockToken.objects, LockTokenManager)
    assert isinstance(Page.objects, LockableModelManager)
    assert isinstance(Chapter.objects, LockableModelManager)


class TestFinding:
    @pytest.fixture(params=["object", "content type and id", "content type and text"])
    def find(self, request):
        objects = LockToken.objects

        def find(obj, **options):
            if request.param == "object":
                return objects.get_for_object(obj, **options)
            contenttype = ContentType.objects.get_for_model(obj, for_concrete_model=False)
            pk = obj.pk
            if request.param == "content type and text":
                pk = LockToken.objects.get().locked_object_id if objects.exists() else str(pk)
            return objects.get_for_contenttype_and_id(contenttype, pk, **options)

        return find

    def test_the_lock_of_an_object_is_found(self, find, any_object, lock):
        token = lock(any_object)
        assert find(any_object).token_str == token
        assert find(any_object, allow_expired=False).token_str == token

    def test_an_expired_one_is_found_unless_only_live_ones_are_wanted(self, find, article, lock):
        token = lock(article)
        with freeze_time(TOMORROW):
            assert find(article).token_str == token
            with pytest.raises(LockToken.DoesNotExist):
                find(article, allow_expired=False)

    def test_no_lock_does_not_exist(self, find, any_object):
        with pytest.raises(LockToken.DoesNotExist):
            find(any_object)

    def test_a_key_that_no_object_can_have_does_not_exist(self):
        contenttype = ContentType.objects.get_for_model(Article)
        with pytest.raises(LockToken.DoesNotExist, match=r"^'x' is not a key of app\.Article\.$"):
            LockToken.objects.get_for_contenttype_and_id(contenttype, "x")

    def test_a_content_type_without_a_model_does_not_exist(self):
        contenttype = ContentType.objects.create(app_label="gone", model="thing")
        with pytest.raises(LockToken.DoesNotExist, match="names no installed model"):
            LockToken.objects.get_for_contenttype_and_id(contenttype, 1)


class TestGetOrCreate:
    def test_a_free_object_is_locked(self, any_object):
        row, created = LockToken.objects.get_or_create_for_object(any_object)
        assert created is True
        assert LockableModel.check_lock(any_object, row.token_str)
        assert row.locked_object_content_type.model_class() is root_of(type(any_object))

    def test_the_live_lock_is_returned(self, any_object, lock):
        token = lock(any_object)
        row, created = LockToken.objects.get_or_create_for_object(any_object)
        assert (row.token_str, created) == (token, False)

    def test_an_expired_lock_is_taken_over(self, any_object, lock):
        token = lock(any_object)
        with freeze_time(TOMORROW):
            row, created = LockToken.objects.get_or_create_for_object(any_object)
            assert created is True
            assert row.token_str != token
            assert LockToken.objects.get().pk == row.pk


class TestForObjects:
    def test_each_object_that_has_a_lock_is_a_key(self, lock):
        article, other = (Article.objects.create(title="a") for _ in range(2))
        slugs = [Slug.objects.create(slug=slug) for slug in ("a", "b")]
        bistro = Bistro.objects.create(name="a")
        tokens = {obj: lock(obj) for obj in (article, slugs[1], bistro)}

        found = LockToken.objects.for_objects([article, other, *slugs, bistro])

        assert {obj: row.token_str for obj, row in found.items()} == tokens

    def test_expired_locks_are_there_too(self, article, lock):
        lock(article)
        with freeze_time(TOMORROW):
            assert LockToken.objects.for_objects([article])[article].has_expired()

    def test_an_object_is_found_as_each_of_its_classes(self, lock):
        bistro = Bistro.objects.create(name="a")
        article = Article.objects.create(title="a")
        lock(bistro)
        lock(article)
        objects = [
            Place.objects.get(pk=bistro.pk),
            bistro,
            ArticleProxy.objects.get(pk=article.pk),
        ]
        assert set(LockToken.objects.for_objects(objects)) == set(objects)

    def test_nothing_gives_nothing(self, assert_statements):
        with assert_statements(0):
            assert LockToken.objects.for_objects([]) == {}
        assert LockToken.objects.for_objects(iter(Article.objects.all())) == {}


class TestLiveAndExpired:
    def test_they_share_the_locks_between_them(self, lock):
        groups = [Group.objects.create(name=str(number)) for number in range(4)]
        for number, group in enumerate(groups, 1):
            lock(group, timeout=number * 24 * 3600)
        with freeze_time(datetime.now(timezone.utc) + timedelta(days=2.5)):
            for locks in (LockToken.objects, LockToken.objects.all()):
                assert [row.locked_object for row in locks.live().order_by("pk")] == groups[2:]
                assert [row.locked_object for row in locks.expired().order_by("pk")] == groups[:2]


class TestBreakLock:
    def test_the_lock_is_gone_and_its_token_stale(self, any_object, lock, bob):
        token = lock(any_object)
        assert LockToken.objects.break_lock(any_object, by=bob, reason="He is ill.") is True
        assert not LockToken.objects.exists()
        lock(any_object)
        assert LockableModel.check_lock(any_object, token) is False

    def test_it_is_logged_with_the_reason(self, article, lock, bob, caplog):
        caplog.set_level("INFO", "lock_tokens")
        lock(article)
        LockToken.objects.break_lock(article, by=bob, reason="He is ill.")
        assert caplog.messages == [
            f"The lock of app.Article {article.pk} was broken by bob: He is ill."
        ]

    def test_without_a_lock_there_is_nothing_to_break(self, any_object, caplog):
        caplog.set_level("INFO", "lock_tokens")
        assert LockToken.objects.break_lock(any_object) is False
        assert caplog.messages == []
