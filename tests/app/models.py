"""Models of every shape that an object to be locked can have."""

import uuid
from decimal import Decimal

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models
from model_utils.fields import AutoLastModifiedField

from lock_tokens.managers import LockableModelManager
from lock_tokens.models import LockableModel


class Article(models.Model):
    title = models.CharField(max_length=100)
    body = models.TextField(default="")
    view_count = models.IntegerField(default=0)

    def __str__(self):
        return self.title


class ArticleProxy(Article):
    class Meta:
        proxy = True


class Page(LockableModel):
    """Lockable by its base class."""

    title = models.CharField(max_length=100)


class Chapter(LockableModel):
    """Lockable, with a manager of its own."""

    title = models.CharField(max_length=100)

    objects = LockableModelManager()


class Place(models.Model):
    name = models.CharField(max_length=100)


class Restaurant(Place):
    stars = models.IntegerField(default=0)


class Bistro(Restaurant):
    terrace = models.BooleanField(default=False)


class Museum(Place):
    free = models.BooleanField(default=False)


class Shop(models.Model):
    shop_id = models.BigAutoField(primary_key=True)
    sign = models.CharField(max_length=100, default="")


class Cafe(Place, Shop):
    """Has two parents, and so is two objects."""


class Uuid(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=100)


class Slug(models.Model):
    """Keyed by text that its users choose, such as ``A/b c``."""

    slug = models.CharField(primary_key=True, max_length=300)
    name = models.CharField(max_length=100, default="")


class AnyCaseField(models.CharField):
    """Text that SQLite too compares without regard to case, as MariaDB does by default."""

    def db_parameters(self, connection):
        parameters = super().db_parameters(connection)
        if connection.vendor == "sqlite":
            parameters["collation"] = "nocase"
        return parameters


class AnyCase(models.Model):
    code = AnyCaseField(primary_key=True, max_length=50)
    name = models.CharField(max_length=100, default="")


class AnyCaseDetail(models.Model):
    """Keyed by a relation to such a key."""

    owner = models.OneToOneField(AnyCase, primary_key=True, on_delete=models.CASCADE)
    name = models.CharField(max_length=100, default="")


class Line(models.Model):
    """Keyed by two columns."""

    pk = models.CompositePrimaryKey("order", "number")
    order = models.IntegerField()
    number = models.IntegerField()
    text = models.CharField(max_length=100, default="")


class Profile(models.Model):
    """Keyed by a relation."""

    article = models.OneToOneField(Article, primary_key=True, on_delete=models.CASCADE)
    text = models.CharField(max_length=100, default="")


class Dated(models.Model):
    """Keyed by a moment."""

    at = models.DateTimeField(primary_key=True)
    name = models.CharField(max_length=100, default="")


class Custom(models.Model):
    """Has a save and a delete of its own."""

    name = models.CharField(max_length=100)
    saved_by_its_own_method = False

    def save(self, *args, **kwargs):
        self.saved_by_its_own_method = True
        super().save(*args, **kwargs)

    def save_base(self, *args, **kwargs):
        super().save_base(*args, **kwargs)

    def delete(self, *args, **kwargs):
        return super().delete(*args, **kwargs)


class Zero(models.Model):
    """Keyed by a column whose default is false."""

    id = models.IntegerField(primary_key=True, default=0)
    name = models.CharField(max_length=100, default="")


class Archived(models.Model):
    """Has a delete with arguments of its own."""

    name = models.CharField(max_length=100)
    archived = models.BooleanField(default=False)

    def delete(self, archive=False):
        if not archive:
            return super().delete()
        self.archived = True
        return self.save()


class Section(models.Model):
    name = models.CharField(max_length=100)


class Photo(models.Model):
    name = models.CharField(max_length=100)


class Desk(models.Model):
    name = models.CharField(max_length=100)


class Tag(models.Model):
    name = models.CharField(max_length=100)


class Person(models.Model):
    name = models.CharField(max_length=100)


class StoryQuerySet(models.QuerySet):
    def drafts(self):
        return self.filter(published=False)

    def publish(self):
        return self.update(published=True)


class StoryManager(models.Manager.from_queryset(StoryQuerySet)):
    pass


class DraftManager(models.Manager):
    def get_queryset(self):
        return StoryQuerySet(self.model, using=self._db).drafts()


class Story(models.Model):
    """Related to others in every way there is."""

    slug = models.SlugField(unique=True)
    title = models.CharField(max_length=100, default="old")
    published = models.BooleanField(default=False)
    views = models.IntegerField(default=0)
    section = models.ForeignKey(Section, models.CASCADE, null=True)
    photo = models.ForeignKey(Photo, models.SET_NULL, null=True)
    desk = models.ForeignKey(Desk, models.SET_DEFAULT, default=None, null=True)
    editor = models.ForeignKey(
        Person, models.SET(lambda: None), null=True, related_name="edited_stories"
    )
    tags = models.ManyToManyField(Tag)
    authors = models.ManyToManyField(Person, through="Authorship", related_name="stories")
    related = models.ManyToManyField("self")

    objects = StoryManager()
    unpublished = DraftManager()


class StoryProxy(Story):
    class Meta:
        proxy = True


class Authorship(models.Model):
    story = models.ForeignKey(Story, models.CASCADE)
    person = models.ForeignKey(Person, models.CASCADE)
    share = models.IntegerField(default=100)


class Shelf(models.Model):
    """Has a many-to-many relation to stories."""

    stories = models.ManyToManyField(Story)


class Correction(models.Model):
    """Protected by its story's lock, and by its own while it has no story."""

    story = models.ForeignKey(Story, models.CASCADE, null=True)
    text = models.CharField(max_length=100, default="old")
    seen = models.BooleanField(default=False)


class Reply(models.Model):
    """Protected by the lock of the story of its correction."""

    correction = models.ForeignKey(Correction, models.CASCADE)
    text = models.CharField(max_length=100, default="old")


class Remark(models.Model):
    """Refers to objects of every shape, and has what the field of ``VIA`` cannot be."""

    story = models.ForeignKey(Story, models.CASCADE, to_field="slug", null=True)
    proxy = models.ForeignKey(StoryProxy, models.CASCADE, null=True, related_name="+")
    restaurant = models.ForeignKey(Restaurant, models.CASCADE, null=True)
    uuid = models.ForeignKey(Uuid, models.CASCADE, null=True)
    slug = models.ForeignKey(Slug, models.CASCADE, null=True)
    any_case = models.ForeignKey(AnyCase, models.CASCADE, null=True)
    reply_to = models.ForeignKey("self", models.CASCADE, null=True)
    # The tables of this app are made before those of apps with migrations.
    content_type = models.ForeignKey(ContentType, models.CASCADE, null=True, db_constraint=False)
    about = GenericForeignKey("content_type", "number")
    number = models.IntegerField(default=0)
    readers = models.ManyToManyField(Person, related_name="read_remarks", related_query_name="read")
    text = models.CharField(max_length=100, default="old")


class RemarkProxy(Remark):
    class Meta:
        proxy = True


class LongRemark(Remark):
    """A child with a foreign key of its own."""

    chapter = models.ForeignKey(Article, models.CASCADE, null=True)
    more = models.CharField(max_length=100, default="old")


class Sheet(models.Model):
    """Has fields that are hard to compare with what is stored."""

    title = models.CharField(max_length=100, default="old")
    views = models.IntegerField(default=0)
    price = models.DecimalField(max_digits=8, decimal_places=2, default=Decimal("1.50"))
    at = models.DateTimeField(null=True)
    data = models.JSONField(default=dict)
    file = models.FileField(blank=True)
    section = models.ForeignKey(Section, models.CASCADE, null=True)
    number = models.UUIDField(null=True)
    changed = models.DateTimeField(auto_now=True)


class StampedSheet(Sheet):
    """A child, with a field that sets itself in a way of its own."""

    columns = models.IntegerField(default=1)
    stamped = AutoLastModifiedField()


class KeptQuerySet(models.QuerySet):
    def delete(self):
        return self.update(kept=True)


class Kept(models.Model):
    """Its querysets only mark what they delete."""

    name = models.CharField(max_length=100, default="old")
    kept = models.BooleanField(default=False)

    objects = KeptQuerySet.as_manager()


class Drawer(models.Model):
    """Has a delete of its own, and folders that go with it."""

    name = models.CharField(max_length=100, default="old")

    def delete(self):
        Drawer.objects.filter(pk=self.pk).update(name="emptied")
        return super().delete()


def forget(collector, field, rows, using):
    """Empty the foreign key, and look at the rows, as an on_delete of a project may."""
    collector.add_field_update(field, None, [row for row in rows if row.pk])


class FolderManager(models.Manager):
    """Finds what is not hidden."""

    def get_queryset(self):
        return super().get_queryset().filter(hidden=False)


class Named(models.Model):
    """Lends its managers to other models."""

    name = models.CharField(max_length=100, default="old")
    hidden = models.BooleanField(default=False)

    everything = models.Manager()
    objects = FolderManager()

    class Meta:
        abstract = True
        base_manager_name = "everything"
        default_manager_name = "everything"


class Folder(Named):
    """Reached by deletions of every kind."""

    drawer = models.ForeignKey(Drawer, models.CASCADE, null=True)
    owner = models.ForeignKey(Person, forget, null=True)
    labels = GenericRelation("Label")


class FolderProxy(Folder):
    visible = FolderManager()

    class Meta:
        proxy = True


class Box(Named):
    """Has the managers of folders, and is not one."""


class Paper(models.Model):
    """Its folder, and with it the drawer, cannot be deleted."""

    folder = models.ForeignKey(Folder, models.PROTECT, null=True)
    copy_of = models.ForeignKey(Folder, models.RESTRICT, null=True, related_name="copies")


class Label(models.Model):
    """On anything."""

    # Tables of apps without migrations are made first.
    content_type = models.ForeignKey(ContentType, models.CASCADE, db_constraint=False)
    object_id = models.PositiveIntegerField()
    on = GenericForeignKey()
    text = models.CharField(max_length=100, default="old")


class Country(models.Model):
    """Refers to cities, which refer to it."""

    capital = models.ForeignKey("City", models.SET_NULL, null=True, related_name="+")


class City(models.Model):
    country = models.ForeignKey(Country, models.CASCADE, null=True)
    twin = models.ForeignKey("Harbour", models.SET_NULL, null=True)


class Harbour(models.Model):
    country = models.ForeignKey(Country, models.CASCADE, null=True)
