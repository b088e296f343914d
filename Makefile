# Needs Python 3.10 or newer and make; everything else comes with tox, into .venv and .tox.
PYTHON ?= python3
# With pyenv, every Python that it has is offered to tox.
TOX = . .ci/pythons && .venv/bin/tox

.PHONY: help demo test test-all lint types docs benchmarks clean

help:
	@echo 'make demo      run the example project (ONCE=1: only play it through; PORT=8001)'
	@echo 'make test      the tests, on SQLite and the Python at hand'
	@echo 'make test-all  every Python, Django and database, migrations, package, joined coverage'
	@echo 'make lint      ruff'
	@echo 'make types     mypy, strict'
	@echo 'make docs      the documentation, into docs/_build'
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
	$(TOX) run-parallel --parallel 2 --parallel-no-spinner --skip-missing-interpreters false

lint types docs: .venv/bin/tox
	$(TOX) run -q -e $@

# Takes an hour, and wants the machine for itself; its result is what docs/ shows.
benchmarks: .venv/bin/tox
	$(TOX) run -q -e benchmarks

clean:
	rm -rf .venv .tox build dist *.egg-info .coverage* .hypothesis .*_cache htmlcov docs/_build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
