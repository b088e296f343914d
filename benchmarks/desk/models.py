"""An enforced model, the same without enforcement, and rows like a lock's."""

from __future__ import annotations

from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.utils import timezone

from lock_tokens.models import get_random_token


class Text(models.Model):
    title = models.CharField(max_length=200, default="A title")
    body = models.TextField(default="A few words.")
    counter = models.IntegerField(default=0)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.title


class Story(Text):
    """Enforced."""


class Note(Text):
    """Not enforced."""


class Twin(models.Model):
    """A row like a lock's, with the indexes of a lock's, that the ORM creates."""

    id = models.BigAutoField(primary_key=True)
    token_str = models.CharField(max_length=32, unique=True, default=get_random_token)
    content_type = models.ForeignKey(ContentType, models.CASCADE, db_index=False)
    object_id = models.CharField(max_length=255)
    created = models.DateTimeField(default=timezone.now)
    locked_at = models.DateTimeField(default=timezone.now)
    timeout = models.PositiveIntegerField(default=3600)
    locked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    expires_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        unique_together = (("content_type", "object_id"),)

    def __str__(self) -> str:
        return f"{self.content_type_id} {self.object_id}"
