"""Without protection the same people lose what they wrote: the other tests can fail."""

import pytest

from tests.browser.newsroom import opened
from tests.browser.pages import ADMIN, body, save
from tests.browser.test_editing import TYPED

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def newsroom(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("unprotected"), "tests.browser.unprotected") as newsroom:
        yield newsroom


@pytest.mark.parametrize("place", [ADMIN])
def test_in_a_plain_admin_an_old_form_overwrites_what_was_saved_since(
    alice, bob, open_form, saved, holder, stored
):
    hers, his = open_form(alice), open_form(bob)
    assert holder() is None
    body(hers).fill(TYPED)
    body(his).fill("Bricks fell.")
    save(his)
    saved(his)
    save(hers)
    saved(hers)
    assert stored() == TYPED
