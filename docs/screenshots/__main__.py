"""Take the pictures of the documentation: ``make screenshots``.

Plays what the pages tell of in the example project, with browsers of its own for Alice, Bob and
the chief. Needs Chromium, Playwright and freezegun. Names of pictures as arguments: only those.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from docs.screenshots import office
from tests.browser import desk
from tests.browser.conftest import log_in
from tests.browser.driver import Browser, BrowserContext, Page, driving, expect
from tests.browser.newsroom import Newsroom, opened

HERE = Path(__file__).parent
SETTINGS = "docs.screenshots.settings"

HERS = "The old bridge reopens on Monday at noon, with a brass band."
HIS = "The old bridge stays shut: the engineers have found a second crack."

# Folds the admin's list of models away.
FOLD = "localStorage.setItem('django.admin.navSidebarIsOpen', 'false')"
LIGHT = {
    "viewport": {"width": 900, "height": 600},
    "locale": "en-GB",
    "timezone_id": "UTC",
    "color_scheme": "light",
}
DARK = {**LIGHT, "color_scheme": "dark"}
NARROW = {**LIGHT, "viewport": {"width": 360, "height": 900}}
TALL = {**LIGHT, "viewport": {"width": 900, "height": 840}}
SMALL = {**LIGHT, "viewport": {"width": 900, "height": 440}}
ARABIC = {**LIGHT, "locale": "ar"}


# The scenes -----------------------------------------------------------------------------------


class Stage:
    """One scene: its articles, and the browsers of its people, all with the same look."""

    def __init__(self, newsroom: Newsroom, browser: Browser, look: dict[str, Any]) -> None:
        self.newsroom = newsroom
        self.browser = browser
        self.look = look
        self.articles = newsroom.run(office.start_over)
        self.contexts: dict[str, BrowserContext] = {}

    def browser_of(self, name: str) -> BrowserContext:
        if name not in self.contexts:
            url = self.newsroom.url
            context = self.browser.new_context(base_url=url, **self.look)
            context.add_init_script(FOLD)
            log_in(context, name, self.newsroom.passwords[name])
            self.contexts[name] = context
        return self.contexts[name]

    def open(self, name: str, path: str, **options: Any) -> Page:
        page = self.browser_of(name).new_page()
        if options.get("clock"):
            page.clock.install()
        page.goto(path)
        return page

    def edit(self, name: str, article: int = 0, **options: Any) -> Page:
        return self.open(name, f"/admin/news/article/{self.articles[article]}/change/", **options)

    def leave_seconds(self, seconds: int, article: int = 0) -> None:
        self.newsroom.run(desk.leave_seconds, self.articles[article], seconds)

    def close(self) -> None:
        for context in self.contexts.values():
            context.close()


def notice(page: Page) -> Any:
    return page.locator("[data-lock-tokens-banner]")


def body_of(page: Page) -> Any:
    return page.locator("[name=body]")


def save(page: Page) -> None:
    page.locator("[name=_save]").click()
    page.wait_for_load_state()


def editing(stage: Stage) -> Page:
    page = stage.edit("alice")
    body_of(page).fill(HERS)
    return page


def locked(stage: Stage) -> Page:
    stage.edit("alice")
    stage.leave_seconds(437)
    page = stage.edit("chief")
    expect(notice(page).get_by_role("timer")).to_be_visible()
    return page


def free(stage: Stage) -> Page:
    hers, his = stage.edit("alice"), stage.edit("bob")
    expect(notice(his).get_by_role("timer")).to_be_visible()
    save(hers)
    expect(notice(his).locator("a.lock-tokens-button")).to_be_visible()
    return his


def conflict(stage: Stage) -> Page:
    hers = stage.edit("alice")
    body_of(hers).fill(HERS)
    stage.browser_of("alice").set_offline(True)
    stage.leave_seconds(0)
    his = stage.edit("bob")
    body_of(his).fill(HIS)
    save(his)
    stage.browser_of("alice").set_offline(False)
    save(hers)
    expect(hers.locator(".lock-tokens-conflict")).to_be_visible()
    return hers


def idle(stage: Stage) -> Page:
    page = stage.edit("alice", clock=True)
    body_of(page).fill(HERS)
    stage.leave_seconds(298)
    page.clock.fast_forward(901_000)
    expect(notice(page).get_by_role("timer")).to_have_text("4:58")
    return page


def offline(stage: Stage) -> Page:
    page = stage.edit("alice")
    body_of(page).fill(HERS)
    stage.browser_of("alice").set_offline(True)
    expect(notice(page).get_by_role("status")).not_to_be_empty()
    return page


def evicted(stage: Stage) -> Page:
    hers, his = stage.edit("alice"), taking_over(stage)
    body_of(hers).fill(HERS)
    his.locator("#content form [type=submit]").first.click()
    expect(notice(hers).get_by_role("alert")).not_to_be_empty()
    return hers


def taking_over(stage: Stage) -> Page:
    stage.edit("alice")
    stage.leave_seconds(437)
    page = stage.open("chief", f"/admin/news/article/{stage.articles[0]}/lock/")
    page.locator("[name=reason]").fill("The council has called")
    return page


def change_list(stage: Stage) -> Page:
    stage.edit("alice")
    stage.edit("bob", 2)
    stage.edit("chief", 3)
    return stage.open("chief", "/admin/news/article/")


def locks(stage: Stage) -> Page:
    change_list(stage)
    stage.leave_seconds(0, 2)
    return stage.open("chief", "/admin/lock_tokens/locktoken/")


def public(stage: Stage) -> Page:
    page = stage.open("alice", f"/articles/{stage.articles[0]}/edit/")
    body_of(page).fill(HERS)
    return page


def public_locked(stage: Stage) -> Page:
    public(stage)
    stage.leave_seconds(437)
    page = stage.open("bob", f"/articles/{stage.articles[0]}/edit/")
    page.wait_for_load_state("networkidle")
    return page


PICTURES: dict[str, tuple[Callable[[Stage], Page], dict[str, Any]]] = {
    "editing": (editing, LIGHT),
    "locked": (locked, LIGHT),
    "locked-dark": (locked, DARK),
    "locked-arabic": (locked, ARABIC),
    "free": (free, SMALL),
    "conflict": (conflict, TALL),
    "conflict-narrow": (conflict, NARROW),
    "idle": (idle, SMALL),
    "offline": (offline, SMALL),
    "evicted": (evicted, LIGHT),
    "evicted-dark": (evicted, DARK),
    "take-over": (taking_over, SMALL),
    "change-list": (change_list, LIGHT),
    "locks": (locks, LIGHT),
    "public": (public, LIGHT),
    "public-locked": (public_locked, SMALL),
}


# Taking them ----------------------------------------------------------------------------------


def main() -> None:
    wanted = sys.argv[1:] or list(PICTURES)
    with (
        TemporaryDirectory(prefix="screenshots-") as directory,
        opened(Path(directory), SETTINGS) as newsroom,
        driving() as launch,
    ):
        for name in wanted:
            take(name, newsroom, launch)
    shrink([HERE / f"{name}.png" for name in wanted])


def take(name: str, newsroom: Newsroom, launch: Callable[..., Browser]) -> None:
    scene, look = PICTURES[name]
    with closing(Stage(newsroom, launch(), look)) as stage:
        page = scene(stage)
        page.mouse.move(0, 0)
        page.screenshot(path=HERE / f"{name}.png", animations="disabled")


def shrink(pictures: list[Path]) -> None:
    """Make them smaller, if there is pngquant for it."""
    if tool := shutil.which("pngquant"):
        options = ["--force", "--skip-if-larger", "--strip", "--ext", ".png", "64", "--"]
        # 98 and 99: no smaller, or not good enough.
        subprocess.run([tool, *options, *pictures], check=False)  # noqa: S603


if __name__ == "__main__":
    main()
