"""Where articles are edited, and what people do there."""

from typing import NamedTuple

from tests.browser.driver import expect


class Place(NamedTuple):
    path: str
    take_over: str
    # What it says after a save.
    saved: str
    # The name of a link that leads elsewhere.
    way_out: str


ADMIN = Place(
    "/admin/news/article/{}/change/",
    "/admin/news/article/{}/lock/",
    "was changed successfully",
    "Home",
)
NEWSROOM = Place(
    "/articles/{}/edit/",
    "/articles/{}/edit/?lock_tokens",
    "Saved, and free for others.",
    "The Newsroom",
)

# Seconds within which an open page has to know, and those after which a left one is free.
SOON = 10
FREED = 5
# Less than leaving leaves of a lock.
AT_ONCE = 2
# What a lock has when it was taken.
FULL = 600
# For longer than what leaving leaves of a lock.
STAY = """
new Promise((resolve) => {
  document.addEventListener("lock_tokens.lost", () => resolve("lost"));
  setTimeout(() => resolve("held"), 4000);
})
"""


def notice(page):
    """Return the place where the page says how its lock is."""
    return page.locator("[data-lock-tokens-banner]")


def body(page):
    return page.get_by_label("Body:")


def save(page, button="Save"):
    page.get_by_role("button", name=button, exact=True).click()


def take_over(page, reason="Lunch"):
    page.get_by_role("link", name="Take it over…").click()
    page.get_by_label("Reason").fill(reason)
    page.get_by_role("button", name="Take the lock over").click()
    expect(body(page)).to_be_editable()
