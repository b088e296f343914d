"""An article is a plain model; the settings alone say that its writes need the lock."""

from django.db import models
from django.urls import reverse


class Article(models.Model):
    title = models.CharField(max_length=120)
    body = models.TextField()
    view_count = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        ordering = ("-pk",)

    def __str__(self):
        return self.title

    def get_absolute_url(self):
        return reverse("article", args=[self.pk])

    def count_view(self):
        """Count one more reader; needs no lock, because ``view_count`` is an exempt field."""
        self.view_count = models.F("view_count") + 1
        self.save(update_fields=["view_count"])
        self.refresh_from_db(fields=["view_count"])
