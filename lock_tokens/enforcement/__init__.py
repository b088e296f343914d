"""Enforcement: a write of a named model needs the valid token of the object's lock."""

from lock_tokens.enforcement.blocks import holding, suspended
from lock_tokens.enforcement.taking import locked, locks

__all__ = ["holding", "locked", "locks", "suspended"]
