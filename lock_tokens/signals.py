"""Signals: what happened to a lock, sent once it is committed.

Each is sent with ``sender`` (the concrete model), ``pk`` (the object's key), ``using`` (database
alias) and ``lock`` (``LockFacts`` or ``None``). No signal carries a token.
"""

from django.dispatch import Signal

object_locked = Signal()
lock_renewed = Signal()
object_unlocked = Signal()
# Besides: ``previous``, the facts of the expired lock that was replaced.
lock_taken_over = Signal()
# Besides: ``by`` (the user who broke it, or None) and ``reason``.
lock_broken = Signal()
# Sent at once, not on commit, besides: ``error`` (the WriteRefused), ``reason`` (the name of its
# class), ``request`` and its ``path`` (or None), and ``caller`` ("file:line" in the project's code,
# or None). ``pk`` is None where it cannot be known which objects would have been written.
write_refused = Signal()
