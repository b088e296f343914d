"""Enforcement: a write of a named model needs the valid token of the object's lock."""

from lock_tokens.enforcement.context import holding, locked, suspended

__all__ = ["holding", "locked", "suspended"]
