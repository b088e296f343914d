# Needs Python 3.10 or newer and make; everything else comes with tox, into .venv and .tox.
PYTHON ?= python3
# With pyenv, every Python that it has is offered to tox.
TOX = . .ci/pythons && .venv/bin/tox

.PHONY: help demo test test-all lint types js docs messages benchmarks clean

help:
	@echo 'make demo      run the example project (ONCE=1: only play it through; PORT=8001)'
	@echo 'make test      the tests, on SQLite and the Python at hand, and in Chromium if there is one'
	@echo 'make test-all  every Python, Django and database, migrations, package, joined coverage'
	@echo 'make lint      ruff'
	@echo 'make types     mypy, strict'
	@echo 'make js        the tests of the scripts, and Biome (Node.js and npm)'
	@echo 'make docs      the documentation, into docs/_build'
	@echo 'make messages  bring the translations up to date with the code (GNU gettext)'
	@echo 'make screenshots  take the pictures of the documentation anew (Chromium)'
	@echo 'make benchmarks  measure anew what the documentation shows (an hour)'
	@echo 'make clean     remove whatever these made'

.venv/bin/tox:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is needed, and $(PYTHON) is not: try make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) has no venv module: install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet 'tox>=4.22'

demo: .venv/bin/tox
	$(TOX) run -q -e demo --notest
	@exec .tox/demo/bin/python -m example_project.demo $(if $(ONCE),--once) $(if $(PORT),--port $(PORT))

test: .venv/bin/tox
	$(TOX) run -q -e py-sqlite

test-all: .venv/bin/tox
	. .ci/pythons && .ci/preflight
	$(TOX) run-parallel --parallel 3 --parallel-no-spinner --skip-missing-interpreters false

lint types js docs screenshots: .venv/bin/tox
	$(TOX) run -q -e $@

# Without the date that gettext writes the catalogues change only when the texts do.
messages: .venv/bin/tox
	$(TOX) run -q -e demo --notest
	cd lock_tokens && ../.tox/demo/bin/python -m django makemessages --all --no-location --no-obsolete
	sed -i '/^"POT-Creation-Date: /d' lock_tokens/locale/*/LC_MESSAGES/django.po
	cd lock_tokens && ../.tox/demo/bin/python -m django compilemessages --verbosity 0

# Takes an hour, and wants the machine for itself; its result is what docs/ shows.
benchmarks: .venv/bin/tox
	$(TOX) run -q -e benchmarks

clean:
	rm -rf .venv .tox node_modules build dist *.egg-info .coverage* .hypothesis .*_cache htmlcov docs/_build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
