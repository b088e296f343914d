"""The newsroom's own pages, as two editors and a reader see them."""

import pytest

from tests.browser import desk
from tests.browser.driver import expect

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("name", [None, "alice"])
@pytest.mark.parametrize("path", ["/", "/articles/{}/", "/login/"])
def test_everybody_can_use_the_pages_that_everybody_sees(
    name, path, visit, article, check_accessible
):
    page = visit(name).new_page()
    page.goto(path.format(article))
    check_accessible(page)


def test_everybody_can_use_the_pages_that_say_who_edits(alice, bob, article, check_accessible):
    alice.new_page().goto(f"/articles/{article}/edit/")
    page = bob.new_page()
    for path in ("/", f"/articles/{article}/", f"/articles/{article}/edit/"):
        page.goto(path)
        expect(page.get_by_role("main")).to_contain_text("alice")
        check_accessible(page)


def test_leaving_without_saving_frees_the_article_at_once(alice, article, newsroom):
    page = alice.new_page()
    page.goto(f"/articles/{article}/edit/")
    page.get_by_role("button", name="Leave without saving").click()
    expect(page).to_have_url(f"{newsroom.url}/articles/{article}/")
    assert newsroom.run(desk.lock_id, article) is None
