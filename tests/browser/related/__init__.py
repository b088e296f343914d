"""A part of the newsroom in which everything is related: sections, stories, corrections, people."""
