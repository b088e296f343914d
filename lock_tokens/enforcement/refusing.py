"""A refusal is logged, announced and raised; not raised where it is only to be reported."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Model

from lock_tokens import signals
from lock_tokens.enforcement import context
from lock_tokens.enforcement.caller import caller
from lock_tokens.exceptions import WriteRefused, names_of, refusal_of_many

logger = logging.getLogger("lock_tokens")


@dataclass(frozen=True)
class Refusal:
    """An error, and the object it is about; ``pk`` is ``None`` where that cannot be known."""

    error: WriteRefused
    model: type[Model]
    pk: Any
    using: str
    report_only: bool


def refuse(refusals: Sequence[Refusal]) -> None:
    """Log and announce ``refusals``, and raise unless all of them are to be reported only."""
    asked_by = caller()
    for refusal in refusals:
        _announce(refusal, asked_by)
    for report_only in (True, False):
        if some := [each.error for each in refusals if each.report_only is report_only]:
            error = refusal_of_many(some)
            _log(error, some, asked_by, report_only=report_only)
            if not report_only:
                raise error


def _log(
    error: WriteRefused, all_: Sequence[WriteRefused], asked_by: str | None, *, report_only: bool
) -> None:
    request = _request()
    note = " (report only)" if report_only else ""
    by = f", by {asked_by}" if asked_by else ""
    path = f", request {request.path}" if request else ""
    logger.warning("%s: %s%s%s%s", type(error).__name__, names_of(all_), note, by, path)


def _announce(refusal: Refusal, asked_by: str | None) -> None:
    request, error = _request(), refusal.error
    signals.write_refused.send_robust(
        refusal.model,
        pk=refusal.pk,
        using=refusal.using,
        lock=error.lock,
        error=error,
        reason=type(error).__name__,
        request=request,
        path=request.path if request else None,
        caller=asked_by,
    )


def _request() -> Any:
    tokens = context.current().request
    return tokens.request if tokens else None
