"""What a page says of the lock on the object it edits: ``lock_page`` in its context."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import forms

from lock_tokens.conflicts import conflict_of
from lock_tokens.pages import HELD, PageLock
from lock_tokens.takeover import take_over_link


@dataclass(frozen=True)
class Banner:
    """What ``lock_tokens/banner.html`` renders; it has no token in its ``repr``."""

    page: PageLock
    # Where the page's script asks, and where the lock is taken over.
    url: str
    # Seconds without a key or a click after which the page renews no more; None: never.
    idle: int | None = None
    # The form that was refused and is shown again, with what was typed.
    refused: forms.BaseForm | None = None

    @property
    def is_held(self) -> bool:
        """Whether the page has the lock."""
        return self.page.state == HELD

    @property
    def by(self) -> str | None:
        return self.page.facts.by if self.page.facts else None

    @property
    def since(self) -> datetime | None:
        return self.page.facts.since if self.page.facts else None

    @property
    def until(self) -> datetime | None:
        return self.page.facts.until if self.page.facts else None

    @property
    def message(self) -> str:
        """Who has the object, as HTML, on a page that only waits for it."""
        return "" if self.is_held or self.refused else self.page.tell(html=True)

    @property
    def take_over(self) -> str:
        """The link to the page on which the lock is taken over, if the user may."""
        return take_over_link(self.page, self.url)

    @property
    def conflict(self) -> str:
        """What was typed beside what is stored, and the way on, after a refusal."""
        if self.refused is None:
            return ""
        return conflict_of(self.refused, (), self.page, self.url)

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the element of the page's script."""
        typed = self.refused is not None and not self.is_held
        return self.page.attributes(self.url, idle=self.idle, typed=typed)
