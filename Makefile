# make run: the window on the default model; without a display the same job in the terminal.
# make test: everything that is checked. make lint: the quick part of it. make bench: speed.

PYTHON := $(shell for name in python3 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && { echo $$name; break; }; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check

.PHONY: run test lint bench
.NOTPARALLEL:

run: .venv/run
	@$(BIN)/python -m app.launch

test: lint
	@$(BIN)/python -m app.prepare
	@$(BIN)/python -m pytest --ignore=tests/benchmarks -n 2 --dist loadfile

lint: .venv/test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: .venv/test
	@$(BIN)/python -m app.prepare
	@$(BIN)/python -m pytest tests/benchmarks -s

# A stamp is written when the installation it stands for is complete, so an interrupted one is done again.
.venv/run: pyproject.toml .venv/made
	$(PIP) --editable .
	@touch $@

.venv/test: pyproject.toml .venv/made
	$(PIP) --editable '.[dev]'
	@touch $@ .venv/run

.venv/made:
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		test -n "$(PYTHON)" || { echo "Inference Playground needs Python 3.11, 3.12 or 3.13, and none was found" >&2; exit 1; }; \
		rm -rf .venv; \
		$(PYTHON) -m venv .venv || { rm -rf .venv; \
			echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; }; \
	fi
	@touch $@
