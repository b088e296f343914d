"""The models that README.rst talks about."""

from django.db import models


class Section(models.Model):
    name = models.CharField(max_length=100)


class Photo(models.Model):
    caption = models.CharField(max_length=100)


class Tag(models.Model):
    name = models.CharField(max_length=100)


class Article(models.Model):
    title = models.CharField(max_length=100)
    body = models.TextField(default="")
    published = models.BooleanField(default=False)
    view_count = models.IntegerField(default=0)
    section = models.ForeignKey(Section, null=True, on_delete=models.CASCADE)
    photo = models.ForeignKey(Photo, null=True, on_delete=models.SET_NULL)
    tags = models.ManyToManyField(Tag)


class Correction(models.Model):
    article = models.ForeignKey(Article, null=True, on_delete=models.CASCADE)
    text = models.TextField(default="")


class Reply(models.Model):
    correction = models.ForeignKey(Correction, on_delete=models.CASCADE)
    text = models.TextField(default="")
