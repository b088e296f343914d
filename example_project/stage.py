"""Tells the story, line by line, and stops it at the first line that is not true."""

import os
import textwrap
from typing import TextIO

from example_project.browser import Page

WIDTH = 88
BOLD, GREEN, RED, CYAN, FAINT = "1", "32", "31", "36", "2"


class MismatchError(Exception):
    """What was told did not happen."""

    def __init__(self, claim: str, wanted: object, got: object) -> None:
        super().__init__(claim)
        self.claim = claim
        self.wanted = wanted
        self.got = got


class Stage:
    """Writes to ``stream``, in colours if it is a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.coloured = stream.isatty() and "NO_COLOR" not in os.environ
        self.scenes = 0
        self.checks = 0

    def write(self, line: str = "", colour: str | None = None) -> None:
        self.stream.write(self.paint(line, colour) + "\n")
        self.stream.flush()

    def paint(self, text: str, colour: str | None) -> str:
        return f"\033[{colour}m{text}\033[0m" if self.coloured and colour and text else text

    def title(self, text: str) -> None:
        self.write(text, BOLD)
        self.write("=" * len(text))

    def scene(self, text: str) -> None:
        self.scenes += 1
        self.write()
        self.write(f"{self.scenes}. {text}", BOLD)

    def tell(self, text: str) -> None:
        for line in textwrap.wrap(text, WIDTH - 3):
            self.write(f"   {line}")

    def code(self, text: str) -> None:
        for line in text.strip().splitlines():
            self.write(f"      {line}", FAINT)

    def request(self, who: str, page: Page, *, wanted: int) -> None:
        """Tell what ``who`` asked for and what came; check that it is the status ``wanted``."""
        line = f"{who:<6} {page.method:<6} {page.path:<30}"
        if page.status != wanted:
            came = f"status {page.status}: {page.text}"
            raise MismatchError(" ".join(line.split()), f"status {wanted}", _shorten(came))
        self.checks += 1
        answer = self.paint(f"{page.status} {page.reason}", GREEN if wanted < 400 else RED)
        self.write(f"   {self.paint(line, CYAN)} → {answer}")

    def check(self, claim: str, *, wanted: object, got: object) -> None:
        """Tell ``claim``, and check that ``got`` is what was ``wanted``."""
        if got != wanted:
            raise MismatchError(claim, wanted, got)
        self.checks += 1
        first, *rest = textwrap.wrap(claim, WIDTH - 7)
        self.write(f"     {self.paint('✓', GREEN)} {first}")
        for line in rest:
            self.write(f"       {line}")

    def check_says(self, claim: str, text: str, *parts: str) -> None:
        """Tell ``claim``, and check that each of ``parts`` stands in ``text``."""
        missing = [part for part in parts if part not in text]
        if missing:
            wanted = f"a text with {' and '.join(map(repr, missing))}"
            raise MismatchError(claim, wanted, _shorten(text))
        self.check(claim, wanted=[], got=missing)

    def fail(self, mismatch: MismatchError) -> None:
        """Say plainly what was expected and what came."""
        self.write(f"     {self.paint('✗', RED)} {mismatch.claim}")
        self.write()
        self.write("The story does not hold here.", RED)
        self.write(f"   expected: {mismatch.wanted}")
        self.write(f"   came:     {mismatch.got}")


def _shorten(text: str) -> str:
    return textwrap.shorten(text, 600)
