"""Settings of a newsroom in which only the admin and the edit page know of locks."""

from example_project.settings import *  # noqa: F403

LOCK_TOKENS = {"TIMEOUT": 600}
