"""The newsroom as the pictures show it: at a time that stands still, in the reader's language."""

from freezegun import freeze_time

from example_project.settings import *  # noqa: F403
from example_project.settings import MIDDLEWARE

# Whoever imports the settings lives in this moment: the server, and whoever prepares the scenes.
freeze_time("2026-11-23 09:00:00").start()

MIDDLEWARE = [
    *MIDDLEWARE[: MIDDLEWARE.index("django.middleware.common.CommonMiddleware")],
    "django.middleware.locale.LocaleMiddleware",
    *MIDDLEWARE[MIDDLEWARE.index("django.middleware.common.CommonMiddleware") :],
]
# What the terminal would say of every request.
LOGGING = {"version": 1, "loggers": {"django.server": {"level": "ERROR"}}}
