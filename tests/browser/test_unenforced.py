"""The same for a model of which only its ModelAdmin and its view know that it is locked."""

import pytest

from tests.browser.newsroom import opened
from tests.browser.test_editing import (  # noqa: F401
    pytestmark,
    test_a_refused_form_shows_mine_and_theirs_and_saves_after_a_look,
    test_opening_the_form_takes_the_lock_and_saving_ends_it,
    test_the_chief_takes_over_and_the_evicted_page_says_so_at_once,
)


@pytest.fixture(scope="module")
def newsroom(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("unenforced"), "tests.browser.unenforced") as newsroom:
        yield newsroom
