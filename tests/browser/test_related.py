"""Lists, actions, inlines and relations in the admin, as two editors use them at once."""

import re
from contextlib import ExitStack
from functools import cache

import pytest

from tests.browser import desk
from tests.browser.driver import expect
from tests.browser.newsroom import opened
from tests.browser.pages import ADMIN, SOON, notice, save
from tests.browser.related import archive

pytestmark = pytest.mark.browser

STORY = "related.Story"
LIST = "/{}/related/story/"
CHANGE = "/{}/related/{}/{}/change/"
OLD, NEW = "The old bridge", "The new bridge"
BY_ALICE = re.compile(r"[Ll]ocked by alice until ")
LOOKED = "I have looked: save mine"
# Under which settings a test is played where it is not the first ones.
EITHER = pytest.mark.parametrize("newsroom", ["enforced", "unenforced"], indirect=True)
UNENFORCED = pytest.mark.parametrize("newsroom", ["unenforced"], indirect=True)


@pytest.fixture(scope="module")
def newsrooms(tmp_path_factory):
    """Open the newsroom under one settings module or another, each once."""
    with ExitStack() as stack:

        @cache
        def open_newsroom(name):
            directory = tmp_path_factory.mktemp(name)
            newsroom = stack.enter_context(opened(directory, f"tests.browser.related.{name}"))
            newsroom.run(archive.entrust)
            return newsroom

        yield open_newsroom


@pytest.fixture
def newsroom(request, newsrooms):
    return newsrooms(getattr(request, "param", "enforced"))


@pytest.fixture
def place():
    return ADMIN


@pytest.fixture
def stories(newsroom):
    """The keys of the old story, which has relations, and of the new one."""
    return newsroom.run(archive.start_afresh)


@pytest.fixture
def old(stories):
    return stories[0]


@pytest.fixture
def new(stories):
    return stories[1]


@pytest.fixture
def notes(newsroom, stories):
    return lambda: [newsroom.run(archive.story, pk)["note"] for pk in stories]


@pytest.fixture
def stored(newsroom, old):
    """Return what is stored of the old story."""
    return lambda *names: [newsroom.run(archive.story, old)[name] for name in names]


@pytest.fixture
def holder(newsroom, old):
    return lambda: newsroom.run(desk.holder, old, STORY)


def open_list(person, site="admin"):
    return open_at(person, LIST.format(site))


def open_story(person, pk, site="admin"):
    return open_at(person, CHANGE.format(site, "story", pk))


def open_at(person, path):
    page = person.new_page()
    page.goto(path)
    return page


def row(page, title):
    """Return the row of a change list."""
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=title, exact=True))


def note_in(page, title):
    return row(page, title).get_by_role("textbox")


def field(page, name):
    """Return the part of a form that has the field ``name``, its links and buttons too."""
    return page.locator(f".form-row.field-{name}")


def difference(page, name):
    """Return the row of the field ``name`` in what a refused page compares."""
    return page.get_by_role("table", name="What you typed").get_by_role("row", name=name)


# Rows edited in the list.


@EITHER
def test_rows_edited_in_the_list_are_saved_and_left_without_a_lock(bob, notes, holder):
    page = open_list(bob)
    note_in(page, OLD).fill("Go on")
    note_in(page, NEW).fill("Stop")
    save(page)
    expect(page.get_by_text("2 stories were changed successfully.")).to_be_visible()
    assert (notes(), holder()) == (["Go on", "Stop"], None)


@EITHER
def test_a_list_with_a_row_that_another_has_open_is_refused_until_it_is_free(
    alice, bob, old, saved, notes, holder
):
    hers = open_story(alice, old)
    his = open_list(bob)
    note_in(his, OLD).fill("Go on")
    note_in(his, NEW).fill("Stop")
    save(his)
    expect(his.get_by_text(f"Nothing was saved. story “{OLD}”: Locked by alice")).to_be_visible()
    expect(his.get_by_role("list").get_by_text(BY_ALICE).last).to_be_visible()
    expect(note_in(his, OLD)).to_have_value("Go on")
    expect(note_in(his, NEW)).to_have_value("Stop")
    assert (notes(), holder()) == (["Wait", "Wait"], "alice")
    save(hers)
    saved(hers)
    save(his)
    expect(his.get_by_text("2 stories were changed successfully.")).to_be_visible()
    assert notes() == ["Go on", "Stop"]


def both_change_the_note(alice, bob, pk, site):
    """Bob's list is older than what alice saves before he does; return his page."""
    his = open_list(bob, site)
    hers = open_story(alice, pk, site)
    hers.get_by_label("Note:").fill("Hers")
    save(hers)
    expect(hers.get_by_text(ADMIN.saved)).to_be_visible()
    note_in(his, OLD).fill("His")
    note_in(his, NEW).fill("His too")
    save(his)
    return his


@EITHER
def test_a_list_that_is_older_than_a_row_overwrites_nothing_and_says_so(alice, bob, old, notes):
    page = both_change_the_note(alice, bob, old, "admin")
    why = "Note has been changed since this page was opened. Open it afresh."
    expect(page.get_by_text(f"Nothing was saved. story “{OLD}”: {why}")).to_be_visible()
    expect(note_in(page, OLD)).to_have_value("His")
    expect(note_in(page, NEW)).to_have_value("His too")
    assert notes() == ["Hers", "Wait"]


@UNENFORCED
def test_in_a_plain_admin_an_old_list_overwrites_what_was_saved_since(alice, bob, old, notes):
    page = both_change_the_note(alice, bob, old, "plain")
    expect(page.get_by_text("2 stories were changed successfully.")).to_be_visible()
    assert notes() == ["His", "His too"]


# Actions.


def publish(page, *titles):
    for title in titles:
        row(page, title).get_by_role("checkbox").check()
    page.get_by_label("Action:").select_option("Publish")
    page.get_by_role("button", name=re.compile("^(Go|Run)$")).click()


@pytest.fixture
def published(newsroom, stories):
    return lambda: [newsroom.run(archive.story, pk)["published"] for pk in stories]


@EITHER
def test_an_action_leaves_out_the_row_that_another_has_open_and_names_it(
    alice, bob, old, saved, published, notes
):
    hers = open_story(alice, old)
    page = open_list(bob)
    publish(page, OLD, NEW)
    left_out = f"1 story was left out, because it is locked: story “{OLD}” (locked by alice until"
    expect(page.get_by_text(left_out)).to_be_visible()
    assert published() == [False, True]
    hers.get_by_label("Note:").fill("Hers")
    save(hers)
    saved(hers)
    assert notes() == ["Hers", "Wait"]


@UNENFORCED
def test_in_a_plain_admin_an_action_writes_the_row_that_another_has_open(
    alice, bob, old, published, within
):
    open_story(alice, old)
    publish(open_list(bob, "plain"), OLD, NEW)
    within(SOON, lambda: published() == [True, True])


def test_an_action_on_a_row_of_ones_own_open_page_makes_that_page_stale(
    bob, old, published, holder, within
):
    older = open_story(bob, old)
    page = open_list(bob)
    publish(page, OLD)
    within(SOON, lambda: published() == [True, False])
    expect(page.get_by_text("left out")).to_have_count(0)
    told = notice(older).get_by_role("alert")
    within(SOON, lambda: "Your lock has ended" in told.text_content())
    save(older)
    expect(older.get_by_text("Nothing was saved")).to_be_visible()
    assert holder() == "bob"


# Inlines.


def in_row(page, number, name):
    return page.locator(f"#id_correction_set-{number}-{name}")


def correction(page, number):
    return in_row(page, number, "text")


def printed(page, number):
    """Return the field of the day; that of the time is another."""
    return in_row(page, number, "printed_0")


def add_correction(page, text):
    page.get_by_text("Add another Correction").click()
    correction(page, 2).fill(text)
    printed(page, 2).fill("2026-11-24")
    in_row(page, 2, "printed_1").fill("06:00")


@EITHER
def test_inline_rows_are_changed_added_and_deleted_under_the_lock_of_the_page(
    alice, bob, old, saved, stored, holder
):
    page = open_story(alice, old)
    expect(open_story(bob, old).get_by_text("alice is editing this:")).to_be_visible()
    correction(page, 0).fill("It is a bridge of stone.")
    in_row(page, 1, "DELETE").check()
    add_correction(page, "It has two arches.")
    save(page)
    saved(page)
    assert stored("corrections") == [["It is a bridge of stone.", "It has two arches."]]
    assert holder() is None


def evict(alice, bob, newsroom, pk):
    """Let alice's lock run out while she is offline, and bob open the page; return his."""
    alice.set_offline(True)
    newsroom.run(desk.leave_seconds, pk, 0, STORY)
    return open_story(bob, pk)


@EITHER
def test_a_stale_form_keeps_its_inline_rows_shows_the_stored_ones_and_saves_after_a_look(
    alice, bob, old, newsroom, saved, stored, holder
):
    hers = open_story(alice, old)
    correction(hers, 0).fill("It is a bridge of stone.")
    printed(hers, 1).fill("2026-11-23")
    add_correction(hers, "It has two arches.")
    his = evict(alice, bob, newsroom, old)
    correction(his, 0).fill("It is a bridge of iron.")
    save(his)
    saved(his)
    alice.set_offline(False)
    save(hers)
    expect(hers.get_by_text("Nothing was saved").first).to_be_visible()
    expect(difference(hers, ": Text")).to_contain_text(
        re.compile(r"It is a bridge of stone\.\s*It is a bridge of iron\.")
    )
    expect(correction(hers, 0)).to_have_value("It is a bridge of stone.")
    expect(printed(hers, 1)).to_have_value("2026-11-23")
    expect(correction(hers, 2)).to_have_value("It has two arches.")
    assert stored("corrections") == [["It is a bridge of iron.", "It is old."]]
    assert holder() == "alice"
    save(hers, LOOKED)
    saved(hers)
    merged = ["It is a bridge of stone.", "It is old.", "It has two arches."]
    days = ["2026-11-22", "2026-11-23", "2026-11-24"]
    assert (stored("corrections", "printed"), holder()) == ([merged, days], None)


def test_a_stale_form_keeps_what_was_typed_beside_a_row_that_is_gone(
    alice, bob, old, newsroom, saved, stored
):
    hers = open_story(alice, old)
    correction(hers, 1).fill("It is very old.")
    his = evict(alice, bob, newsroom, old)
    in_row(his, 0, "DELETE").check()
    save(his)
    saved(his)
    alice.set_offline(False)
    save(hers)
    gone = "Somebody has deleted this since the page was opened."
    expect(hers.get_by_text(gone)).to_be_visible()
    expect(correction(hers, 1)).to_have_value("It is very old.")
    assert stored("corrections") == [["It is old."]]
    in_row(hers, 0, "DELETE").check()
    save(hers, LOOKED)
    saved(hers)
    assert stored("corrections") == [["It is very old."]]


def test_what_was_typed_into_inline_rows_survives_an_error_elsewhere(alice, old, saved, stored):
    page = open_story(alice, old)
    printed(page, 1).fill("2026-11-23")
    page.get_by_label("Title:").fill(" ")
    save(page)
    expect(page.get_by_text("This field is required.")).to_be_visible()
    page.get_by_label("Title:").fill(OLD)
    save(page)
    saved(page)
    assert stored("printed") == [["2026-11-22", "2026-11-23"]]


# Many-to-many.


def choose(page, name, option):
    """Move an option to those that are chosen."""
    chooser = field(page, name)
    chooser.locator("select").first.select_option(option)
    chooser.get_by_text(re.compile(r"^Choose( selected.*)?$")).click()


def test_what_is_chosen_is_saved_under_the_lock(alice, bob, old, saved, stored, holder):
    page = open_story(alice, old)
    his = open_story(bob, old)
    expect(field(his, "tags").locator("select")).to_have_count(0)
    expect(field(his, "tags")).to_contain_text("Bridges")
    choose(page, "tags", "Traffic")
    save(page)
    saved(page)
    assert (stored("tags"), holder()) == ([["Bridges", "Traffic"]], None)


@EITHER
def test_a_stale_form_keeps_what_is_related_and_shows_mine_and_theirs(
    alice, bob, old, newsroom, saved, stored
):
    hers = open_story(alice, old)
    choose(hers, "tags", "Traffic")
    sources = newsroom.run(archive.keys, "Carol", "Dan")
    hers.get_by_label("Sources:").fill(sources)
    his = evict(alice, bob, newsroom, old)
    choose(his, "tags", "Budget")
    his.get_by_label("Sources:").fill(newsroom.run(archive.keys, "Erin"))
    save(his)
    saved(his)
    alice.set_offline(False)
    save(hers)
    for name, mine, theirs in (
        ("Tags", "Bridges, Traffic", "Bridges, Budget"),
        ("Sources", "Carol, Dan", "Erin"),
    ):
        expect(difference(hers, name)).to_have_text(re.compile(rf"{name}\s*{mine}\s*{theirs}"))
    chosen = field(hers, "tags").locator("select").last.locator("option")
    expect(chosen).to_have_text(["Bridges", "Traffic"])
    expect(hers.get_by_label("Sources:")).to_have_value(sources)
    assert stored("tags", "sources") == [["Bridges", "Budget"], ["Erin"]]
    save(hers, LOOKED)
    saved(hers)
    assert stored("tags", "sources") == [["Bridges", "Traffic"], ["Carol", "Dan"]]


# Raw ids, and other windows.


# A click that closes its own window has no end for Playwright.
CLICK = "(link) => { setTimeout(() => link.click()) }"


def look_up(page, name, choice):
    """Pick the object called ``choice`` in the window that a raw-id field opens."""
    with page.expect_popup() as popup:
        field(page, name).locator("a.related-lookup").click()
    with popup.value.expect_event("close"):
        link = popup.value.get_by_role("link", name=choice, exact=True)
        link.click(trial=True)
        link.evaluate(CLICK)


@EITHER
def test_what_is_looked_up_is_saved_under_the_lock(alice, old, newsroom, saved, stored, holder):
    page = open_story(alice, old)
    look_up(page, "author", "Dan")
    look_up(page, "sources", "Erin")
    expect(page.get_by_label("Author:")).to_have_value(newsroom.run(archive.keys, "Dan"))
    expect(page.get_by_label("Sources:")).to_have_value(newsroom.run(archive.keys, "Carol", "Erin"))
    assert holder() == "alice"
    save(page)
    saved(page)
    assert stored("author", "sources") == ["Dan", ["Carol", "Erin"]]
    assert holder() is None


def test_what_is_looked_up_is_not_tied_to_what_another_has_open(alice, bob, old, newsroom, saved):
    hers = open_story(alice, old)
    pk, _leads = newsroom.run(archive.section, "City")
    page = open_at(bob, CHANGE.format("admin", "section", pk))
    look_up(page, "leads", OLD)
    save(page)
    expect(page.get_by_text(f"Story {old} was not saved, because it is locked.")).to_be_visible()
    expect(page.get_by_text("by alice.")).to_be_visible()
    expect(page.get_by_label("Leads:")).to_have_value(str(old))
    assert newsroom.run(archive.section, "City")[1] == []
    save(hers)
    saved(hers)
    save(page)
    saved(page)
    assert newsroom.run(archive.section, "City")[1] == [OLD]


def test_the_window_of_a_related_object_says_who_has_it_and_offers_it_once_it_is_free(
    alice, bob, old, newsroom, saved, stored, within
):
    pk, _leads = newsroom.run(archive.section, "City")
    his = open_at(bob, CHANGE.format("admin", "section", pk))
    page = open_story(alice, old)
    with page.expect_popup() as opened_popup:
        field(page, "section").get_by_role("link", name="Change").click()
    popup = opened_popup.value
    expect(popup.get_by_text("bob is editing this:")).to_be_visible()
    expect(popup.get_by_role("textbox")).to_have_count(0)
    expect(popup.get_by_role("button", name="Save")).to_have_count(0)
    save(his)
    saved(his)
    edit = notice(popup).get_by_role("link", name="Edit now")
    within(SOON, edit.is_visible)
    edit.click()
    popup.get_by_label("Name:").fill("Town")
    with popup.expect_event("close"):
        save(popup)
    expect(page.get_by_label("Section:")).to_have_value(str(pk))
    expect(page.get_by_role("option", name="Town")).to_be_attached()
    assert newsroom.run(desk.holder, pk, "related.Section") is None
    save(page)
    saved(page)
    assert stored("section") == ["Town"]


def test_what_is_added_in_a_window_is_saved_under_the_lock(alice, old, saved, stored, holder):
    page = open_story(alice, old)
    with page.expect_popup() as popup:
        field(page, "section").get_by_role("link", name="Add").click()
    popup.value.get_by_label("Name:").fill("Weather")
    with popup.value.expect_event("close"):
        save(popup.value)
    assert holder() == "alice"
    save(page)
    saved(page)
    assert (stored("section"), holder()) == (["Weather"], None)
