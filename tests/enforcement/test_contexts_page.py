"""docs/contexts.rst is true: its examples run from top to bottom."""

import doctest
import sys
from pathlib import Path

import pytest
from docutils import nodes
from docutils.core import publish_doctree

from lock_tokens import enforcement
from lock_tokens.models import LockToken
from tests import news

PAGE = Path(__file__).resolve().parents[2] / "docs" / "contexts.rst"


@pytest.fixture
def page(tmp_path):
    with (tmp_path / "warnings").open("w+") as warnings:
        overrides = {"report_level": 1, "warning_stream": warnings, "_disable_config": True}
        page = publish_doctree(PAGE.read_text(), str(PAGE), settings_overrides=overrides)
        warnings.seek(0)
        assert warnings.read() == ""
    return page


@pytest.mark.django_db(transaction=True)
def test_the_examples_of_the_page_run_from_top_to_bottom(page, settings, monkeypatch):
    settings.LOCK_TOKENS = {"ENFORCED_MODELS": ["news.Article"]}
    monkeypatch.setitem(sys.modules, "news", news)
    monkeypatch.setitem(sys.modules, "news.models", news.models)
    names, failures = {"__name__": "page"}, []
    runner, parser = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS), doctest.DocTestParser()
    blocks = list(page.findall(nodes.literal_block))
    for block in blocks:
        language = block["classes"][1]
        if language == "python":
            exec(block.astext(), names)  # noqa: S102
        else:
            assert language == "pycon"
            test = parser.get_doctest(block.astext() + "\n", names, "page", str(PAGE), block.line)
            runner.run(test, out=failures.append, clear_globs=False)
            names.update(test.globs)
    assert "".join(failures) == ""
    assert runner.summarize(verbose=False).attempted > len(blocks)
    assert not LockToken.objects.exists()


def test_the_page_names_every_block(page):
    table = next(page.findall(nodes.table))
    names = [row.astext().split()[0] for row in table.findall(nodes.row)][1:]
    assert sorted(names) == sorted(enforcement.__all__)
