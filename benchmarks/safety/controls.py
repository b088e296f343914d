"""The protections taken away, one at a time, to see that the harness would notice."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from typing import Any

from django.db import connection

from lock_tokens import locking, verdicts
from lock_tokens.enforcement import guard, querysets, saves
from lock_tokens.exceptions import LockExpiredWarning, NoLockWarning

# A share of the timeout that no lock here has ever lost.
NEVER = -1_000_000


def _replace(module: Any, name: str, value: Any) -> None:
    assert hasattr(module, name), f"{module.__name__} has no {name} any more"
    setattr(module, name, value)


def no_row_lock() -> None:
    """Let the guard read the lock's row without keeping it; the write comes a moment later."""
    _replace(locking, "hold", locking.read)
    # A renewal would lock the row that is not to be locked.
    _replace(verdicts, "RENEW_BELOW", NEVER)
    if connection.vendor == "sqlite":
        # Here a transaction that has read cannot write any more once somebody else has, so the
        # look has to be outside of the write's transaction to be no protection.
        for module in (saves, querysets):
            _replace(module, "transaction_for", lambda using: nullcontext())
        _replace(guard, "require_transaction", lambda label, pk, using: None)


def check_then_save() -> None:
    """Let the workers ask ``check_lock`` and then save with the guard off, as one did in 0.2.5."""
    warnings.simplefilter("ignore", LockExpiredWarning)
    warnings.simplefilter("ignore", NoLockWarning)


SET_UP = {"no-row-lock": no_row_lock, "check-then-save": check_then_save}
