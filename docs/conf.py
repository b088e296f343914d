"""How Sphinx builds the documentation: ``make docs``."""

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lock_tokens import __version__  # noqa: E402

project = "django-lock-tokens"
release = version = __version__
html_theme = "furo"
html_title = f"{project} {release}"
html_show_copyright = False
exclude_patterns = ["_build"]

# The pages link each other by the names of their files, so that the links work where the sources
# are read as they are.
LINK = re.compile(r"`([^`<]+)\s<(?:docs/|\.\./)?(\w+)\.rst>`__")


def refer(text: str) -> str:
    """Return ``text`` with links to files as references to pages."""
    return LINK.sub(lambda found: f":doc:`{found[1]} <{page_of(found[2])}>`", text)


def page_of(file: str) -> str:
    return "index" if file == "README" else file.lower()


def refer_in_page(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = refer(source[0])


def refer_in_included(app: Sphinx, file: Path, page: str, source: list[str]) -> None:
    # Seen from the README, pictures are in a directory below.
    source[0] = refer(source[0]).replace(".. image:: docs/", ".. image:: ")


def setup(app: Sphinx) -> None:
    app.connect("source-read", refer_in_page)
    app.connect("include-read", refer_in_included)
