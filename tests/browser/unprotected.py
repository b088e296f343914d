"""Settings of a newsroom whose admin knows nothing of locks: what the other tests guard against."""

from example_project.settings import *  # noqa: F403

LOCK_TOKENS = {}
ROOT_URLCONF = "tests.browser.unprotected_urls"
