"""The newsroom's URLs, with a plain ModelAdmin for its articles."""

from django.contrib import admin

from example_project.news.models import Article

# Before the admin lists its URLs.
admin.site.unregister(Article)
admin.site.register(Article)

from example_project.urls import urlpatterns  # noqa: E402

__all__ = ["urlpatterns"]
