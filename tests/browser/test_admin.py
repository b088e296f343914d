"""What only the admin has: more ways to save, and the delete page."""

import re

import pytest

from tests.browser import desk
from tests.browser.driver import expect
from tests.browser.pages import ADMIN, SOON, body, notice, save

pytestmark = pytest.mark.browser

TYPED = "It reopens on Monday at noon, with a brass band."


@pytest.fixture
def place():
    return ADMIN


def test_save_and_continue_goes_on_under_another_lock(alice, open_form, lock_id, holder, stored):
    page = open_form(alice)
    before = lock_id()
    for text in ("Once.", "Twice."):
        body(page).fill(text)
        save(page, "Save and continue editing")
        expect(page.get_by_text("You may edit it again below.")).to_be_visible()
        expect(body(page)).to_have_value(text)
        assert stored() == text
    assert holder() == "alice"
    assert lock_id() > before


def test_save_and_add_another_leaves_no_lock(alice, open_form, newsroom, holder, stored):
    page = open_form(alice)
    body(page).fill(TYPED)
    save(page, "Save and add another")
    expect(page).to_have_url(f"{newsroom.url}/admin/news/article/add/")
    assert (holder(), stored()) == (None, TYPED)


def test_save_and_continue_in_another_tab_ends_this_form(alice, open_form, stored, within):
    older, newer = open_form(alice), open_form(alice)
    body(older).fill(TYPED)
    save(newer, "Save and continue editing")
    told = notice(older).get_by_role("alert")
    within(SOON, lambda: "This form is out of date" in told.text_content())
    save(older)
    expect(older.get_by_text("Nothing was saved")).to_be_visible()
    expect(body(older)).to_have_value(TYPED)
    assert stored() == "It reopens on Monday."


# Deleting.


def test_the_delete_page_keeps_the_lock_and_deletes(alice, open_form, article, newsroom, lock_id):
    page = open_form(alice)
    before = lock_id()
    page.get_by_text("Delete", exact=True).click()
    expect(page.get_by_text("Are you sure you want to delete")).to_be_visible()
    assert lock_id() == before
    page.get_by_role("button", name="Yes, I").click()
    expect(page.get_by_text("was deleted successfully")).to_be_visible()
    assert (newsroom.run(desk.article, article), lock_id()) == (None, None)


def test_whoever_wants_to_delete_what_another_edits_is_told_who_it_is(
    alice, bob, open_form, article, stored
):
    open_form(alice)
    page = bob.new_page()
    page.goto(f"/admin/news/article/{article}/delete/")
    expect(page.get_by_text("alice is editing this")).to_be_visible()
    assert stored() == "It reopens on Monday."


# The change list.


@pytest.fixture
def open_list():
    def open_list(person):
        page = person.new_page()
        page.goto("/admin/news/article/")
        return page

    return open_list


def test_the_list_says_in_words_who_has_a_row(alice, bob, open_form, open_list, article):
    open_form(alice)
    for person, who in ((bob, "alice"), (alice, "you")):
        page = open_list(person)
        link = page.locator(f'a[href="/admin/news/article/{article}/change/"]')
        row = page.get_by_role("row").filter(has=link)
        expect(row.get_by_role("img", name=who)).to_be_visible()


def test_deleting_the_selected_rows_leaves_the_one_that_is_edited_and_says_so(
    alice, chief, open_form, open_list, article, newsroom, stored
):
    other = newsroom.run(desk.write_article, title="The new bridge", body="It stays shut.")
    open_form(alice)
    page = open_list(chief)
    for pk in (article, other):
        page.locator(f'input[name="_selected_action"][value="{pk}"]').check()
    page.get_by_label("Action:").select_option("delete_selected")
    page.get_by_role("button", name=re.compile("^(Go|Run)$")).click()
    left_out = "1 article was left out, because it is locked: article “The old bridge” (locked by"
    expect(page.get_by_text(left_out)).to_be_visible()
    page.get_by_role("button", name="Yes, I").click()
    expect(page.get_by_text("Successfully deleted 1 article.")).to_be_visible()
    assert (newsroom.run(desk.article, other), stored()) == (None, "It reopens on Monday.")
