"""The URLs of the test project."""

from django.urls import include, path

urlpatterns = [
    path("lock_tokens/", include("lock_tokens.urls")),
]
