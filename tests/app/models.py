"""Models of every shape that an object to be locked can have."""

import uuid

from django.db import models

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
