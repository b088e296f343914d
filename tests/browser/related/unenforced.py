"""Settings of a newsroom in which only the admin knows of the locks of its related models."""

from tests.browser.related.enforced import *  # noqa: F403

LOCK_TOKENS = {"TIMEOUT": 600}
