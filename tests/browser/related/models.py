"""A story is related to others in every way that the admin can edit."""

from django.db import models


class Named(models.Model):
    name = models.CharField(max_length=100)

    class Meta:
        abstract = True
        ordering = ("pk",)

    def __str__(self):
        return self.name


class Person(Named):
    pass


class Tag(Named):
    pass


class Section(Named):
    leads = models.ManyToManyField("Story", blank=True, related_name="+")


class Story(models.Model):
    title = models.CharField(max_length=100)
    note = models.CharField(max_length=100, blank=True)
    published = models.BooleanField(default=False)
    section = models.ForeignKey(Section, models.SET_NULL, null=True, blank=True)
    author = models.ForeignKey(Person, models.SET_NULL, null=True, blank=True)
    tags = models.ManyToManyField(Tag, blank=True)
    sources = models.ManyToManyField(Person, blank=True, related_name="+")

    class Meta:
        ordering = ("pk",)
        verbose_name_plural = "stories"

    def __str__(self):
        return self.title


class Correction(models.Model):
    """Protected by the lock of its story."""

    story = models.ForeignKey(Story, models.CASCADE)
    text = models.CharField(max_length=100)
    printed = models.DateTimeField()

    class Meta:
        ordering = ("pk",)

    def __str__(self):
        return f"Correction {self.pk}"
