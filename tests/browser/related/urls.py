"""The newsroom's URLs, and an admin that knows nothing of locks."""

from django.urls import path

from example_project.urls import urlpatterns as newsroom
from tests.browser.related.admin import plain

urlpatterns = [*newsroom, path("plain/", plain.urls)]
