"""The newsroom's articles."""
