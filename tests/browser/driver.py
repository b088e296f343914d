"""Playwright and Chromium; without them the tests that import this say how to get them."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import pytest

# Seconds. A loaded machine is slow; only a page that hangs takes so long.
PATIENCE = 30
NAMES = ("chromium", "chromium-browser", "google-chrome")


def do_without(reason):
    """Skip the module, or a test; where everything has to be played (CI), that is an error."""
    if os.environ.get("CI"):
        raise RuntimeError(reason)
    pytest.skip(reason, allow_module_level=True)


try:
    from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
except ImportError:
    do_without("no Playwright to drive a browser with: pip install playwright")

CHROMIUM = next(filter(None, map(shutil.which, (os.environ.get("CHROMIUM", ""), *NAMES))), None)
if CHROMIUM is None:
    do_without("no Chromium: apt install chromium, or name another in CHROMIUM")

expect.set_options(timeout=PATIENCE * 1000)

__all__ = ["Browser", "BrowserContext", "Page", "do_without", "driving", "expect"]


@contextmanager
def driving() -> Iterator[Callable[..., Browser]]:
    """Give a function that launches Chromium, once with its back/forward cache and once without.

    Playwright loses its way in a page that comes out of that cache: only for tests about it.
    """
    # Chromium's sandbox needs another user than root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:

        @cache
        def launch(bfcache: bool = False) -> Browser:
            return playwright.chromium.launch(
                executable_path=CHROMIUM,
                args=arguments,
                ignore_default_args=["--disable-back-forward-cache"] if bfcache else None,
                timeout=2 * PATIENCE * 1000,
            )

        yield launch
