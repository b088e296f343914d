"""Locks with secret tokens for any Django object, and enforcement of them."""

__version__ = "1.0.0"
