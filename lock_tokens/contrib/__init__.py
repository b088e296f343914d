"""Support for other packages; a module here needs the one that it is named for."""
