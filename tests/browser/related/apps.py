"""The app of the related models; it has no migrations."""

from django.apps import AppConfig


class RelatedConfig(AppConfig):
    name = "tests.browser.related"
    default_auto_field = "django.db.models.BigAutoField"
