"""Settings of a newsroom that enforces the locks of its related models, too."""

from example_project.settings import *  # noqa: F403
from example_project.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.browser.related"]
ROOT_URLCONF = "tests.browser.related.urls"
LOCK_TOKENS = {
    "TIMEOUT": 600,
    "ENFORCED_MODELS": {
        "related.Section": {},
        "related.Story": {},
        "related.Correction": {"VIA": "story"},
    },
}
