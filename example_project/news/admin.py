"""The plain admin, which knows nothing of locks: what it saves is judged like all the rest."""

from django.contrib import admin

from example_project.news.models import Article

admin.site.register(Article)
