"""The articles in the admin: whoever opens one has its lock, and the others see who that is."""

from django.contrib import admin

from example_project.news.models import Article
from lock_tokens.admin import LockableModelAdmin


@admin.register(Article)
class ArticleAdmin(LockableModelAdmin):
    list_display = ("title", "view_count")
    search_fields = ("title", "body")
