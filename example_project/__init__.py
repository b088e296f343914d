"""A small newsroom: two editors, one admin, articles that nobody writes without the lock."""
