"""Every way to save or delete one object of an enforced model asks the guard."""

from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group
from django.core import serializers
from django.db import IntegrityError, connection, models, transaction
from django.db.models import Value
from django.db.models.signals import post_delete, pre_delete, pre_save
from django.utils import timezone

from lock_tokens.enforcement import holding, locked, receivers, suspended
from lock_tokens.exceptions import LockRequired, ObjectLocked, StaleToken
from lock_tokens.models import LockableModel, LockToken
from lock_tokens.testing import hold_lock
from tests.app.models import (
    AnyCase,
    AnyCaseDetail,
    Archived,
    Article,
    ArticleProxy,
    Bistro,
    Cafe,
    Custom,
    Dated,
    Line,
    Museum,
    Page,
    Place,
    Profile,
    Restaurant,
    Shop,
    Slug,
    Uuid,
    Zero,
)

ENFORCED = [
    "app.Article",
    "app.Custom",
    "app.Dated",
    "app.Line",
    "app.Profile",
    "app.Restaurant",
    "app.Slug",
    "app.Uuid",
    "auth.Group",
]


@pytest.fixture(autouse=True)
def enforced(settings):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ENFORCED}


def make_article(**values):
    return Article.objects.create(title="old", **values)


MAKERS = {
    "integer key": make_article,
    "proxy": lambda: ArticleProxy.objects.get(pk=make_article().pk),
    "deferred": lambda: Article.objects.only("title").get(pk=make_article().pk),
    "64-bit key": lambda: Article.objects.create(pk=2**62, title="old"),
    "UUID key": lambda: Uuid.objects.create(name="old"),
    "text key": lambda: Slug.objects.create(slug="A/b c", name="old"),
    "composite key": lambda: Line.objects.create(order=1, number=2, text="old"),
    "key that is a relation": lambda: Profile.objects.create(article=make_article(), text="old"),
    "key that is a moment": lambda: Dated.objects.create(at=timezone.now(), name="old"),
    "multi-table child": lambda: Restaurant.objects.create(name="old"),
    "multi-table grandchild": lambda: Bistro.objects.create(name="old"),
    "multi-table parent": lambda: Place.objects.get(pk=Restaurant.objects.create(name="old").pk),
    "sibling of a multi-table child": lambda: sibling_of_a_restaurant(),
    "third-party model": lambda: Group.objects.create(name="old"),
    "methods of its own": lambda: Custom.objects.create(name="old"),
}


def sibling_of_a_restaurant():
    restaurant = Restaurant.objects.create(name="old")
    museum = Museum(place_ptr_id=restaurant.pk, name="old")
    museum.save_base(raw=True)
    return Museum.objects.get(pk=restaurant.pk)


def field_of(obj):
    names = {field.name for field in obj._meta.get_fields()}
    return next(name for name in ("title", "name", "text") if name in names)


def rename(obj):
    setattr(obj, field_of(obj), "new")
    return obj


def twin(obj):
    """A new instance with the key of ``obj``, as a form or a deserializer might build it."""
    keys = {field.attname: getattr(obj, field.attname) for field in obj._meta.pk_fields}
    if isinstance(obj, Place):
        keys = {"pk": obj.pk, "id": obj.pk}
    return rename(type(obj)(**keys))


ROADS = {
    "save": lambda obj: rename(obj).save(),
    "save(update_fields)": lambda obj: rename(obj).save(update_fields=[field_of(obj)]),
    "save(force_update)": lambda obj: rename(obj).save(force_update=True),
    "asave": lambda obj: async_to_sync(rename(obj).asave)(),
    "save of a copy with the key": lambda obj: twin(obj).save(force_update=True),
    "save_base": lambda obj: rename(obj).save_base(),
    "delete": lambda obj: obj.delete(),
    "adelete": lambda obj: async_to_sync(obj.adelete)(),
    "delete of a copy with the key": lambda obj: twin(obj).delete(),
}


def is_untouched(obj):
    stored = type(obj).objects.filter(pk=obj.pk).first()
    return stored is not None and getattr(stored, field_of(obj)) == "old"


def in_autocommit(write):
    write()


def in_atomic(write):
    """Write in a transaction, and prove that a refusal leaves it usable."""
    with transaction.atomic():
        try:
            write()
        finally:
            Page.objects.create(title="in the same transaction")


MODES = [pytest.param(in_autocommit, id="autocommit"), pytest.param(in_atomic, id="atomic")]


# What Django itself cannot do: delete a row whose parent row has another child, or one of a
# grandchild that was put together from its key.
IMPOSSIBLE = {("sibling of a multi-table child", road) for road in ROADS if "delete" in road}
IMPOSSIBLE.add(("multi-table grandchild", "delete of a copy with the key"))


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


@pytest.fixture(params=ROADS)
def write(request, mode):
    """Write an object of any kind by one road, in one mode."""

    def write(obj):
        key = obj.pk
        try:
            mode(lambda: ROADS[request.param](obj))
        finally:
            obj.pk = key

    write.road = request.param
    return write


@pytest.fixture
def each_kind(write, subtests):
    """Return a function that plays a scenario on a fresh object of every kind."""

    def play(scenario):
        for kind, make in MAKERS.items():
            if (kind, write.road) in IMPOSSIBLE:
                continue
            with subtests.test(kind):
                with suspended(reason="fixture"):
                    obj = make()
                scenario(obj)

    return play


@pytest.mark.django_db(transaction=True)
class TestEveryRoad:
    """Each road is allowed with the token and refused without it, with the row unchanged."""

    def test_is_refused_without_a_token(self, write, each_kind):
        def scenario(obj):
            with pytest.raises(LockRequired) as caught:
                write(obj)
            assert is_untouched(obj)
            assert caught.value.pk == obj.pk

        each_kind(scenario)

    def test_is_refused_while_somebody_else_has_the_lock(self, write, each_kind):
        def scenario(obj):
            with hold_lock(obj), pytest.raises(ObjectLocked) as caught:
                write(obj)
            assert is_untouched(obj)
            assert caught.value.lock is not None

        each_kind(scenario)

    def test_is_refused_with_a_stale_token(self, write, each_kind):
        def scenario(obj):
            token = LockableModel.lock(obj)["token"]
            LockableModel.unlock(obj, token)
            with holding(token), pytest.raises(StaleToken):
                write(obj)
            assert is_untouched(obj)

        each_kind(scenario)

    def test_is_allowed_with_the_token(self, write, each_kind):
        def scenario(obj):
            with locked(obj):
                write(obj)
            assert not is_untouched(obj)

        each_kind(scenario)

    def test_is_allowed_with_the_token_of_an_expired_lock_that_nobody_took(self, write, each_kind):
        def scenario(obj):
            token = LockableModel.lock(obj)["token"]
            LockToken.objects.update(locked_at=timezone.now() - timedelta(days=1))
            with holding(token):
                write(obj)
            assert not is_untouched(obj)

        each_kind(scenario)

    def test_is_allowed_while_suspended(self, write, each_kind):
        def scenario(obj):
            with suspended(type(obj), reason="the test"):
                write(obj)
            assert not is_untouched(obj)

        each_kind(scenario)

    def test_is_allowed_once_nothing_is_enforced(self, write, each_kind, settings):
        # The negative control of all that is refused above.
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": []}

        def scenario(obj):
            write(obj)
            assert not is_untouched(obj)

        each_kind(scenario)


@pytest.mark.django_db(transaction=True)
class TestTheSecondLine:
    """Roads that go round the wrapped methods meet the signals."""

    def test_save_base_of_model_itself_is_judged_in_a_transaction(self):
        article = make_article()
        with transaction.atomic(), pytest.raises(LockRequired):
            models.Model.save_base(rename(article))
        assert is_untouched(article)
        with transaction.atomic(), locked(article):
            models.Model.save_base(article)
        assert not is_untouched(article)

    def test_save_base_of_model_itself_is_refused_outside_one(self):
        article = make_article()
        with locked(article), pytest.raises(LockRequired) as caught:
            models.Model.save_base(rename(article))
        assert str(caught.value) == (
            f"app.Article {article.pk} was not written: it is saved by a road that opens no "
            "transaction; wrap it in transaction.atomic()."
        )
        assert is_untouched(article)

    def test_a_cascade_into_an_enforced_row_is_refused(self, settings):
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Profile"]}
        article = make_article()
        profile = Profile.objects.create(article=article, text="old")
        with pytest.raises(LockRequired):
            article.delete()
        assert Article.objects.filter(pk=article.pk).exists()
        with locked(profile):
            article.delete()
        assert not Profile.objects.exists()

    def test_a_queryset_delete_of_enforced_rows_is_refused(self):
        article = make_article()
        with pytest.raises(LockRequired):
            Article.objects.all().delete()
        with locked(article):
            Article.objects.all().delete()
        assert not Article.objects.exists()


@pytest.mark.django_db
class TestCreating:
    def test_costs_no_statement_with_an_automatic_key(self, assert_statements):
        with assert_statements(1):
            Article.objects.create(title="new")
        with assert_statements(1):
            Uuid(name="new").save()
        with assert_statements(2):
            Restaurant(name="new").save()

    def test_a_copy_of_a_row_is_a_creation(self):
        article = make_article()
        article.pk = None
        article.save()
        assert Article.objects.count() == 2

    def test_with_a_key_of_its_own_needs_no_token(self, assert_statements):
        Slug(slug="first").save()
        # The look at the lock and the look for the row; Django's attempt to update it is gone.
        # MariaDB is asked first how it spells the key.
        with assert_statements(4 if connection.vendor == "mysql" else 3):
            Slug(slug="new").save()
        assert Slug.objects.filter(slug="new").exists()

    def test_with_the_key_of_a_row_that_is_there_is_an_update(self):
        Slug(slug="key", name="old").save()
        with pytest.raises(LockRequired):
            Slug(slug="key", name="new").save()
        assert Slug.objects.get().name == "old"

    def test_with_the_key_of_a_row_in_another_spelling_is_an_update_where_the_database_says_so(
        self,
    ):
        Slug(slug="key", name="old").save()
        if connection.vendor == "mysql":
            impostor = Slug(slug="KEY", name="new")
            with hold_lock(Slug.objects.get()), pytest.raises(ObjectLocked):
                impostor.save()
            with pytest.raises(LockRequired):
                impostor.delete()
        else:
            Slug(slug="KEY", name="new").save()
        assert Slug.objects.get(slug="key").name == "old"

    @pytest.mark.parametrize("flags", [{}, {"force_update": True}, {"update_fields": ["name"]}])
    @pytest.mark.parametrize("model", [Zero, Uuid])
    def test_with_a_key_that_has_a_default_never_overwrites(self, settings, model, flags):
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Zero", "app.Uuid"]}
        row = model.objects.create(name="old")
        with pytest.raises((LockRequired, IntegrityError)), transaction.atomic():
            model(pk=row.pk, name="new").save(**flags)
        assert is_untouched(row)

    def test_a_key_that_is_an_expression_is_no_way_round(self):
        article = make_article()
        impostor = Article(pk=Value(article.pk), title="new")
        with pytest.raises(ValueError, match="is not a key of"):
            impostor.save()
        assert is_untouched(article)

    # PostgreSQL's keys are equal only to themselves, unless somebody made a collation for them.
    if connection.vendor != "postgresql":

        def test_another_spelling_of_a_key_has_no_lock_of_its_own(self, settings):
            """Where "KEY" finds the row "key", its lock is that of "key", for loaded rows too."""
            settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.AnyCase", "app.AnyCaseDetail"]}
            owner = AnyCase.objects.create(code="key", name="old")
            detail = AnyCaseDetail.objects.create(owner=owner, name="old")
            for row, respell in ((owner, {"code": "KEY"}), (detail, {"owner_id": "KEY"})):
                impostor = type(row).objects.get(pk=row.pk)
                for name, value in {**respell, "name": "new"}.items():
                    setattr(impostor, name, value)
                with hold_lock(row), locked(impostor), pytest.raises((ObjectLocked, LockRequired)):
                    impostor.save()
                assert is_untouched(row)

    def test_by_force_insert_never_overwrites(self):
        Slug(slug="key", name="old").save(force_insert=True)
        with pytest.raises(IntegrityError), transaction.atomic():
            Slug(slug="key", name="new").save(force_insert=True)

    def test_of_a_child_of_an_enforced_parent_is_a_write_of_the_parent(self, settings):
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Place"]}
        place = Place.objects.create(name="old")
        with pytest.raises(LockRequired):
            Restaurant(place_ptr=place, name="new").save()
        with pytest.raises(LockRequired):
            Restaurant(id=place.pk, name="new").save()
        assert Place.objects.get().name == "old"
        with locked(place):
            Restaurant(place_ptr=place, name="new").save()
        assert Place.objects.get().name == "new"

    def test_of_a_row_with_two_parents_overwrites_neither(self, settings):
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Place", "app.Shop"]}
        place, shop = Place.objects.create(name="old"), Shop.objects.create(sign="old")
        cafe = Cafe(id=place.pk, shop_id=shop.pk, name="new", sign="new")
        for held in ([place], [shop]):
            with locked(*held), pytest.raises(LockRequired):
                cafe.save()
        assert (Place.objects.get().name, Shop.objects.get().sign) == ("old", "old")
        with locked(place, shop):
            cafe.save()
        assert (Place.objects.get().name, Shop.objects.get().sign) == ("new", "new")

    def test_of_a_row_with_two_parents_needs_no_token(self, settings):
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Place", "app.Shop"]}
        Cafe.objects.create(name="new", sign="new")
        Cafe(id=7, shop_id=8, name="new", sign="new").save()
        assert Cafe.objects.filter(id=7, shop_id=8).exists()

    def test_of_an_enforced_child_on_a_free_parent_needs_no_token(self):
        place = Place.objects.create(name="old")
        Restaurant(place_ptr=place, name="new").save()
        assert Restaurant.objects.get().name == "new"

    def test_that_loses_a_race_does_not_overwrite_the_winner(self):
        def somebody_else_is_faster(instance, **kwargs):
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO app_slug (slug, name) VALUES ('key', 'theirs')")

        pre_save.connect(somebody_else_is_faster, sender=Slug)
        try:
            with pytest.raises(IntegrityError), transaction.atomic():
                Slug(slug="key", name="mine").save()
        finally:
            pre_save.disconnect(somebody_else_is_faster, sender=Slug)

    def test_save_under_a_changed_key_is_a_write_of_that_row(self):
        first, second = make_article(), make_article()
        first.pk = second.pk
        rename(first)
        with pytest.raises(LockRequired):
            first.save()
        with locked(second):
            first.save()
        assert Article.objects.get(pk=second.pk).title == "new"

    def test_a_deleted_row_does_not_come_back_without_a_token(self):
        article = make_article()
        with locked(Article.objects.get(pk=article.pk)) as token:
            Article.objects.get(pk=article.pk).delete()
        with holding(token), pytest.raises(StaleToken):
            article.save()
        assert not Article.objects.exists()


@pytest.mark.django_db
class TestWhatIsLeftAlone:
    def test_a_plain_place_beside_enforced_restaurants_is_free(self):
        place = Place.objects.create(name="old")
        place.name = "new"
        place.save()
        place.delete()
        assert not Place.objects.exists()

    def test_fixtures_pass(self):
        article = make_article()
        data = serializers.serialize("json", [rename(article)])
        for deserialized in serializers.deserialize("json", data):
            deserialized.save()
        assert Article.objects.get().title == "new"

    def test_a_model_that_is_not_named_gets_no_statement_and_no_receiver(
        self, settings, assert_statements
    ):
        listeners = [
            signal._live_receivers(Museum)[0] for signal in (pre_save, pre_delete, post_delete)
        ]
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Article"]}
        assert [
            signal._live_receivers(Museum)[0] for signal in (pre_save, pre_delete, post_delete)
        ] == [[], [], []]
        assert listeners != [[], [], []]
        assert Place.save_base is models.Model.save_base
        assert Place.delete is models.Model.delete
        place = Place.objects.create(name="old")
        with assert_statements(1):
            place.save()


@pytest.mark.django_db
class TestCost:
    def test_a_guarded_save_costs_one_statement(self, assert_statements):
        article = make_article()
        with locked(article), assert_statements(2):
            article.save()

    def test_a_guarded_save_renews_a_lock_of_which_less_than_half_is_left(self, assert_statements):
        article = make_article()
        with locked(article):
            LockToken.objects.update(locked_at=timezone.now() - timedelta(seconds=1801))
            with assert_statements(3):
                article.save()
            assert LockToken.objects.get().locked_at > timezone.now() - timedelta(seconds=10)

    def test_a_guarded_delete_costs_the_look_and_the_removal_of_the_lock(
        self, count_statements, settings
    ):
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Custom"]}
        custom = Custom.objects.create(name="old")
        with locked(custom):
            assert count_statements(custom.delete) == 3

    def test_suspended_costs_nothing(self, assert_statements):
        article = make_article()
        with suspended(reason="the test"), assert_statements(1):
            article.save()


@pytest.mark.django_db
class TestWiring:
    def test_disconnect_undoes_everything(self):
        receivers.disconnect()
        try:
            assert Article.save_base is models.Model.save_base
            assert Article.delete is models.Model.delete
            article = make_article()
            rename(article).save()
        finally:
            receivers.connect()
        with pytest.raises(LockRequired):
            article.save()

    def test_methods_of_its_own_come_back(self, settings):
        wrapped = Custom.delete
        settings.LOCK_TOKENS = {}
        assert Custom.delete is not wrapped
        assert Custom.__dict__["delete"].__qualname__ == "Custom.delete"

    def test_the_wrapped_methods_stay_out_of_templates(self):
        assert Article.delete.alters_data is True
        assert Article.save_base.alters_data is True

    def test_a_delete_with_arguments_of_its_own_keeps_them(self, settings):
        settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["app.Archived"]}
        archived = Archived.objects.create(name="old")
        for arguments in ((True,), ()):
            with pytest.raises(LockRequired):
                archived.delete(*arguments)
        with locked(archived):
            archived.delete(archive=True)
            assert Archived.objects.get().archived
            archived.delete()
        assert not Archived.objects.exists()

    def test_a_deleted_object_leaves_no_lock_to_the_next_one_with_its_key(self):
        slug = Slug.objects.create(slug="key")
        with locked(slug):
            slug.delete()
        assert not LockToken.objects.exists()
        LockableModel.lock(Slug.objects.create(slug="key"))

    def test_so_does_a_lockable_object_that_is_not_enforced(self):
        page = Page.objects.create(pk=7)
        page.lock()
        page.delete()
        assert not LockToken.objects.exists()

    def test_a_row_whose_key_is_too_long_to_be_locked_can_be_deleted(self, settings):
        settings.LOCK_TOKENS = {"API_MODELS": ["app.Slug"]}
        slug = Slug.objects.create(slug="x" * 300)
        slug.delete()
        assert not Slug.objects.exists()

    def test_the_lock_of_a_deletion_that_is_rolled_back_stays(self):
        page = Page.objects.create()
        page.lock()
        with transaction.atomic():
            page.delete()
            transaction.set_rollback(True)
        assert LockToken.objects.count() == 1

    def test_a_key_that_cannot_be_locked_is_said_to_be_so(self):
        with pytest.raises(ValueError, match="has 300 characters"):
            Slug(slug="x" * 300).save()


@pytest.mark.django_db
def test_a_nested_save_is_judged_for_itself():
    """A handler that saves another object has no share in the judgement of the first."""
    first, second = make_article(), make_article()

    def save_the_other(instance, **kwargs):
        if instance.pk == first.pk:
            rename(second).save()

    pre_save.connect(save_the_other, sender=Article)
    try:
        with locked(first), pytest.raises(LockRequired) as caught:
            rename(first).save()
    finally:
        pre_save.disconnect(save_the_other, sender=Article)
    assert caught.value.pk == second.pk
    assert is_untouched(second)
