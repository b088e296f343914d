"""Two editors and a chief, each with a browser: nobody is locked out, nobody loses anything.

In the admin, and on the newsroom's own edit page.
"""

import re
import time

import pytest

from tests.browser import desk
from tests.browser.driver import expect
from tests.browser.pages import (
    AT_ONCE,
    FREED,
    FULL,
    NEWSROOM,
    SOON,
    STAY,
    body,
    notice,
    save,
    take_over,
)

pytestmark = pytest.mark.browser

TYPED = "It reopens on Monday at noon, with a brass band."


# Opening, and finding it open.


def test_opening_the_form_takes_the_lock_and_saving_ends_it(
    alice, open_form, saved, holder, stored
):
    page = open_form(alice)
    assert holder() == "alice"
    body(page).fill(TYPED)
    save(page)
    saved(page)
    assert (holder(), stored()) == (None, TYPED)


def test_whoever_finds_it_locked_reads_who_since_when_and_until_when(alice, bob, open_form):
    open_form(alice)
    page = open_form(bob)
    message = page.get_by_text("alice is editing this:")
    expect(message).to_be_visible()
    expect(message.locator("time")).to_have_count(2)
    expect(notice(page).get_by_role("timer")).to_have_text(re.compile(r"^(10:00|9:\d\d)$"))
    expect(page.get_by_role("textbox")).to_have_count(0)
    expect(page.get_by_role("button", name="Save")).to_have_count(0)
    expect(page.get_by_text("Delete", exact=True)).to_have_count(0)
    expect(page.get_by_role("heading", name="The old bridge")).to_be_visible()


def test_the_time_that_is_left_is_counted_down(alice, bob, open_form):
    open_form(alice)
    timer = notice(open_form(bob)).get_by_role("timer")
    shown = timer.text_content()
    expect(timer).not_to_have_text(shown)
    assert in_seconds(timer.text_content()) < in_seconds(shown)


def in_seconds(text):
    minutes, seconds = text.split(":")
    return int(minutes) * 60 + int(seconds)


def test_times_are_those_of_the_readers_own_zone(alice, visit, open_form):
    open_form(alice)
    shown = {}
    for zone in ("Asia/Tokyo", "America/New_York"):
        page = open_form(visit("bob", timezone_id=zone))
        since = page.get_by_text("alice is editing this").locator("time").first
        expect(since).to_have_text(page.evaluate(LOCAL, since.get_attribute("datetime")))
        shown[zone] = since.text_content()
    assert shown["Asia/Tokyo"] != shown["America/New_York"]


LOCAL = """
(moment) => new Date(moment).toLocaleString(
  document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" },
)
"""


def test_the_page_of_who_waits_offers_to_edit_once_it_is_free(alice, bob, open_form, saved, within):
    hers, his = open_form(alice), open_form(bob)
    save(hers)
    saved(hers)
    edit = notice(his).get_by_role("link", name="Edit now")
    within(SOON, edit.is_visible)
    edit.click()
    expect(body(his)).to_have_value("It reopens on Monday.")


def test_without_scripts_the_page_says_as_much_and_the_form_saves(
    visit, open_form, saved, holder, stored
):
    hers = open_form(visit("alice", java_script_enabled=False))
    his = open_form(visit("bob", java_script_enabled=False))
    expect(his.get_by_text("alice is editing this:")).to_be_visible()
    expect(his.get_by_role("textbox")).to_have_count(0)
    body(hers).fill(TYPED)
    save(hers)
    saved(hers)
    assert (holder(), stored()) == (None, TYPED)


# Staying.


def test_reloading_keeps_the_lock(alice, open_form, lock_id, seconds_left):
    page = open_form(alice)
    before = lock_id()
    page.reload()
    expect(body(page)).to_be_visible()
    assert page.evaluate(STAY) == "held"
    assert (lock_id(), seconds_left() > FULL / 2) == (before, True)


def test_going_back_and_forward_keeps_the_lock(
    alice, open_form, saved, holder, seconds_left, within, stored
):
    page = open_form(alice)
    page.goto("/admin/")
    page.go_back()
    expect(body(page)).to_be_editable()
    page.go_forward()
    page.go_back()
    body(page).fill(TYPED)
    # Whatever of it was in a cache: before what leaving has left of the lock is over.
    within(AT_ONCE, lambda: seconds_left() > FULL / 2)
    assert holder() == "alice"
    save(page)
    saved(page)
    assert stored() == TYPED


@pytest.mark.parametrize("place", [NEWSROOM])
def test_a_page_out_of_the_back_forward_cache_has_what_was_typed_and_the_lock(
    visit, open_form, seconds_left, within, stored
):
    page = open_form(visit("alice", bfcache=True))
    page.evaluate(REMEMBER_RETURN)
    body(page).fill(TYPED)
    page.goto("/")
    within(FREED, lambda: seconds_left() < FULL / 2)
    page.go_back(wait_until="commit")
    page.wait_for_function("window.returned")
    within(AT_ONCE, lambda: seconds_left() > FULL / 2)
    assert page.evaluate("window.returned") == "from the cache"
    assert body(page).input_value() == TYPED
    page.evaluate("document.querySelector('main form').requestSubmit()")
    within(SOON, lambda: stored() == TYPED)


REMEMBER_RETURN = """
addEventListener("pageshow", ({ persisted }) => {
  window.returned = persisted ? "from the cache" : "loaded anew";
})
"""


def test_an_error_in_the_form_keeps_the_lock(alice, open_form, saved, lock_id, holder, stored):
    page = open_form(alice)
    before = lock_id()
    page.get_by_label("Title:").fill(" ")
    body(page).fill(TYPED)
    save(page)
    expect(page.get_by_text("This field is required.")).to_be_visible()
    assert lock_id() == before
    page.get_by_label("Title:").fill("The old bridge")
    save(page)
    saved(page)
    assert (holder(), stored()) == (None, TYPED)


def test_the_lock_is_renewed_while_the_page_is_open(
    alice, open_form, article, newsroom, seconds_left, within
):
    open_form(alice)
    newsroom.run(desk.leave_seconds, article, 60)
    within(SOON, lambda: seconds_left() > FULL / 2)


# Leaving.


def by_link(page, place):
    page.get_by_role("link", name=place.way_out).click()


def by_closing(page, place):
    page.close(run_before_unload=True)


@pytest.mark.parametrize("leave", [by_link, by_closing])
def test_leaving_frees_it_for_others_within_seconds(
    leave, alice, bob, place, open_form, article, newsroom, holder, within
):
    page = open_form(alice)
    other = alice.new_page()
    left = time.time()
    leave(page, place)
    within(SOON, lambda: holder() is None)
    assert newsroom.run(desk.end, article) < left + FREED
    other.close()
    expect(body(open_form(bob))).to_be_editable()
    assert holder() == "bob"


def test_closing_one_of_two_tabs_keeps_the_lock_for_the_other(
    alice, open_form, saved, holder, seconds_left, within, stored
):
    first, second = open_form(alice), open_form(alice)
    second.close(run_before_unload=True)
    assert first.evaluate(STAY) == "held"
    assert (holder(), seconds_left() > FULL / 2) == ("alice", True)
    body(first).fill(TYPED)
    save(first)
    saved(first)
    assert stored() == TYPED


def test_a_browser_that_vanishes_keeps_the_lock_until_its_time_is_over(
    alice, bob, open_form, article, newsroom, holder, seconds_left
):
    page = open_form(alice)
    alice.set_offline(True)
    page.close()
    assert (holder(), seconds_left() > FULL / 2) == ("alice", True)
    newsroom.run(desk.leave_seconds, article, 0)
    expect(body(open_form(bob))).to_be_editable()
    assert holder() == "bob"


def test_logging_out_frees_everything_and_the_open_pages_say_so(
    alice, open_form, article, newsroom, within
):
    another = newsroom.run(desk.write_article, title="Another", body="Another.")
    pages = [open_form(alice), open_form(alice, another)]
    tab = alice.new_page()
    tab.goto("/admin/")
    tab.get_by_role("button", name="Log out").click()
    expect(tab.get_by_role("link", name="Log in")).to_be_visible()
    assert [newsroom.run(desk.holder, pk) for pk in (article, another)] == [None, None]
    for page in pages:
        said = notice(page).get_by_role("alert")
        within(SOON, lambda said=said: "You are logged out." in said.text_content())


# Being away.


def test_while_nobody_is_there_the_lock_is_not_renewed(idle, article, newsroom, seconds_left):
    newsroom.run(desk.leave_seconds, article, 60)
    with idle.expect_response(is_watching):
        idle.clock.fast_forward(30_000)
    assert seconds_left() <= 60


def is_watching(response):
    return "action=watch" in (response.request.post_data or "")


def test_whoever_comes_back_goes_on(idle, article, newsroom, seconds_left, within):
    newsroom.run(desk.leave_seconds, article, 60)
    idle.get_by_role("button", name="Go on editing").click()
    within(SOON, lambda: seconds_left() > FULL / 2)
    expect(notice(idle)).not_to_contain_text("You have been away")


def test_typing_is_coming_back(idle, article, newsroom, seconds_left, within):
    newsroom.run(desk.leave_seconds, article, 60)
    body(idle).press_sequentially("!")
    within(SOON, lambda: seconds_left() > FULL / 2)


def test_an_absence_that_cost_the_lock_is_told_and_may_end(
    idle, article, newsroom, seconds_left, holder, within
):
    newsroom.run(desk.leave_seconds, article, 0)
    within(SOON, lambda: "Somebody else may take it." in notice(idle).text_content())
    assert holder() is None
    idle.get_by_role("button", name="Go on editing").click()
    within(SOON, lambda: holder() == "alice")


def test_without_a_network_the_page_says_so_and_recovers(alice, open_form, within):
    page = open_form(alice)
    alice.set_offline(True)
    within(SOON, lambda: "No connection. Trying again." in notice(page).text_content())
    alice.set_offline(False)
    back = "The connection is back, and the lock is still yours."
    within(SOON, lambda: back in notice(page).text_content())


def test_what_was_lost_without_a_network_is_told_when_it_is_back(
    alice, bob, open_form, article, newsroom, within
):
    page = open_form(alice)
    body(page).fill(TYPED)
    alice.set_offline(True)
    newsroom.run(desk.leave_seconds, article, 0)
    open_form(bob)
    alice.set_offline(False)
    told = notice(page).get_by_role("alert")
    within(SOON, lambda: "bob took the lock over" in told.text_content())
    expect(body(page)).to_have_value(TYPED)


# Old forms.


def test_each_save_ends_the_older_tab_which_says_so_and_keeps_what_was_typed(
    alice, open_form, saved, stored, within
):
    older, newer = open_form(alice), open_form(alice)
    body(older).fill(TYPED)
    body(newer).fill("Bricks fell.")
    save(newer)
    saved(newer)
    told = notice(older).get_by_role("alert")
    within(SOON, lambda: "Your lock has ended" in told.text_content())
    save(older)
    expect(older.get_by_text("Nothing was saved")).to_be_visible()
    expect(body(older)).to_have_value(TYPED)
    assert stored() == "Bricks fell."


def test_a_refused_form_shows_mine_and_theirs_and_saves_after_a_look(
    alice, bob, open_form, saved, article, newsroom, holder, stored
):
    hers = open_form(alice)
    body(hers).fill(TYPED)
    alice.set_offline(True)
    newsroom.run(desk.leave_seconds, article, 0)
    his = open_form(bob)
    body(his).fill("Bricks fell.")
    save(his)
    saved(his)
    alice.set_offline(False)
    save(hers)
    expect(hers.get_by_role("row", name="Body")).to_have_text(
        re.compile(rf"Body\s*{re.escape(TYPED)}\s*Bricks fell\.")
    )
    expect(body(hers)).to_have_value(TYPED)
    assert (holder(), stored()) == ("alice", "Bricks fell.")
    merged = f"{TYPED} Bricks fell."
    body(hers).fill(merged)
    save(hers, "I have looked: save mine")
    saved(hers)
    assert (holder(), stored()) == (None, merged)


def test_who_presses_plain_save_on_a_refused_form_is_refused_again(
    alice, bob, open_form, article, newsroom, stored
):
    hers = open_form(alice)
    body(hers).fill(TYPED)
    newsroom.run(desk.leave_seconds, article, 0)
    save(open_form(bob))
    for _ in range(2):
        save(hers)
        expect(hers.get_by_text("Nothing was saved")).to_be_visible()
        expect(body(hers)).to_have_value(TYPED)
    assert stored() == "It reopens on Monday."


# Taking over.


def test_the_chief_takes_over_and_the_evicted_page_says_so_at_once(
    alice, chief, open_form, article, newsroom, holder, within, stored
):
    alice.grant_permissions(["clipboard-read", "clipboard-write"])
    hers, his = open_form(alice), open_form(chief)
    body(hers).fill(TYPED)
    take_over(his, "Alice is at lunch")
    assert holder() == "chief"
    assert newsroom.run(desk.history, article) == ["chief: Took over the lock: Alice is at lunch"]
    told = notice(hers).get_by_role("alert")
    within(SOON, lambda: "chief took the lock over" in told.text_content())
    hers.get_by_role("button", name="Copy my text").click()
    expect(hers.get_by_text("Copied.")).to_be_visible()
    assert TYPED in hers.evaluate("navigator.clipboard.readText()")
    save(hers)
    expect(hers.get_by_text("Nothing was saved")).to_be_visible()
    expect(body(hers)).to_have_value(TYPED)
    assert (holder(), stored()) == ("chief", "It reopens on Monday.")


def test_nobody_else_may_take_over(alice, bob, place, open_form, article, holder):
    open_form(alice)
    page = open_form(bob)
    expect(page.get_by_text("alice is editing this")).to_be_visible()
    expect(page.get_by_role("link", name="Take it over…")).to_have_count(0)
    assert page.goto(place.take_over.format(article)).status == 403
    assert holder() == "alice"


def test_the_same_person_takes_over_from_another_browser(alice, visit, open_form, holder, within):
    office, home = open_form(alice), open_form(visit("alice"))
    expect(home.get_by_text("You are editing this in another session")).to_be_visible()
    take_over(home)
    told = notice(office).get_by_role("alert")
    within(SOON, lambda: "you took this lock over in another session" in told.text_content())
    assert holder() == "alice"


# For everybody.


def test_who_uses_only_the_keyboard_edits_as_soon_as_it_is_free(alice, bob, open_form):
    hers, his = open_form(alice), open_form(bob)
    save(hers)
    edit = notice(his).get_by_role("link", name="Edit now")
    expect(edit).to_be_visible()
    for _ in range(60):
        his.keyboard.press("Tab")
        if edit.evaluate("(link) => link === document.activeElement"):
            break
    his.keyboard.press("Enter")
    expect(body(his)).to_be_editable()


def test_what_changes_is_announced(alice, bob, open_form):
    hers, his = open_form(alice), open_form(bob)
    status = notice(his).get_by_role("status")
    expect(status).to_contain_text(re.compile(r"\d:\d\d"))
    save(hers)
    expect(status).to_have_text("It is free now.")
