"""The URLs of the test project."""

from django.urls import include, path

urlpatterns = [
    path("articles/", include("tests.app.views")),
    path("enforced/", include("tests.app.enforcement_views")),
    path("lock_tokens/", include("lock_tokens.urls")),
]
