"""Every page that says something of locks can be used by everybody, with any look."""

import pytest

from tests.browser import desk
from tests.browser.driver import expect
from tests.browser.pages import ADMIN, notice, save

pytestmark = pytest.mark.browser


def test_the_form(alice, open_form, check):
    check(open_form(alice))


def test_the_form_of_who_is_away(idle, check):
    check(idle)


def test_the_page_of_who_waits(alice, bob, chief, open_form, saved, check):
    hers = open_form(alice)
    check(open_form(bob))
    his = open_form(chief)
    expect(his.get_by_role("link", name="Take it over…")).to_be_visible()
    check(his)
    save(hers)
    saved(hers)
    expect(notice(his).get_by_role("link", name="Edit now")).to_be_visible()
    check(his)


def test_the_page_on_which_a_lock_is_taken_over(alice, chief, open_form, check):
    open_form(alice)
    page = open_form(chief)
    page.get_by_role("link", name="Take it over…").click()
    expect(page.get_by_label("Reason")).to_be_visible()
    check(page)
    page.get_by_label("Reason").fill(" ")
    page.get_by_role("button", name="Take the lock over").click()
    expect(page.get_by_text("This field is required.")).to_be_visible()
    check(page)


def test_the_evicted_form_and_the_refused_one(
    alice, bob, open_form, saved, article, newsroom, check
):
    hers = open_form(alice)
    newsroom.run(desk.leave_seconds, article, 0)
    his = open_form(bob)
    expect(notice(hers).get_by_role("alert")).to_contain_text("bob took the lock over")
    check(hers)
    his.get_by_label("Body:").fill("Bricks fell.")
    save(hers)
    expect(hers.get_by_text("Nothing was saved")).to_be_visible()
    check(hers)
    save(his)
    saved(his)
    save(hers)
    expect(hers.get_by_role("button", name="I have looked: save mine")).to_be_visible()
    check(hers)


@pytest.mark.parametrize("place", [ADMIN])
def test_the_delete_page(alice, open_form, check):
    page = open_form(alice)
    page.get_by_text("Delete", exact=True).click()
    expect(page.get_by_text("Are you sure you want to delete")).to_be_visible()
    check(page)


@pytest.mark.parametrize("path", ["/admin/news/article/", "/admin/lock_tokens/locktoken/"])
@pytest.mark.parametrize("place", [ADMIN])
def test_the_lists(path, alice, chief, open_form, check):
    open_form(alice)
    page = chief.new_page()
    page.goto(path)
    check(page)


@pytest.mark.parametrize("place", [ADMIN])
def test_a_lock(alice, chief, open_form, lock_id, check):
    open_form(alice)
    page = chief.new_page()
    page.goto(f"/admin/lock_tokens/locktoken/{lock_id()}/change/")
    check(page)


@pytest.fixture
def check(check_accessible):
    # Of Django's own, in one version or another.
    return lambda page: check_accessible(page, ["#changelist-search", ".breadcrumbs"])
