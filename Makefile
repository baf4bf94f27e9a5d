# From a fresh clone to a result: needs python3 (3.11 or newer), its pip (22.3 or newer), make and git, nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# pip works on the environment from outside, so neither python3-venv's ensurepip nor a pip inside it is needed.
INSTALL := $(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check --no-input -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup demo check static test test-thorough test-browser fuzz bench tables experiments docs

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.dev  ## install what developing needs and switch the commit hook on
	git config core.hooksPath .githooks

demo: $(VENV)/.core  ## install the core and run the main example on the iris data
	$(BIN)/atoll demo

check: static  ## format, lint, types, layers, documentation and its examples: what every commit must pass
	$(BIN)/pytest tests/docs

static: $(VENV)/.dev docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

test: static  ## what CI runs: everything in `make check`, and all tests but the thorough ones
	$(BIN)/pytest -n 2 || { echo "== once more, one at a time: what failed beside other tests"; \
	  $(BIN)/pytest --last-failed --last-failed-no-failures none; }

test-thorough: static  ## the same with the thorough tests: the whole grid of data, partitions, engines and plans
	$(BIN)/pytest -n 2 -m "thorough or not thorough" --timeout 1800

test-browser: $(VENV)/.dev  ## the dashboard in a real browser; needs Chromium on this machine
	@$(INSTALL) --editable '.[browser]'
	$(BIN)/pytest tests/silo/test_browser.py

fuzz: $(VENV)/.dev  ## damaged input for all that reads, and every path of a coordinator as it describes itself
	@$(INSTALL) --editable '.[fuzz]'
	$(BIN)/python tests/fuzz/fuzz_wire.py --cases 1000000
	$(BIN)/python tests/fuzz/silo.py --cases 1000000
	$(BIN)/python tests/fuzz/openapi.py --cases 20000

bench: $(VENV)/.dev  ## measure every speed claim of the README, each as a ratio within one run
	@set -e; for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

tables: $(VENV)/.dev  ## measure again what docs/supported.md and docs/exactness.md say
	$(BIN)/python docs/tables.py

experiments: $(VENV)/.dev  ## measure again what docs/experiments.md says
	$(BIN)/python benchmarks/heterogeneity.py 30 1000 5 page
	$(BIN)/python benchmarks/digits_by_label.py 5 page

docs: $(VENV)/.dev  ## build the documentation into docs/_build, warnings as errors
	@rm -rf docs/_build docs/api
	$(BIN)/sphinx-build --quiet --fail-on-warning --nitpicky --keep-going docs docs/_build

$(BIN)/python:
	$(PYTHON) -m venv --without-pip $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing Atoll and its core dependencies into $(VENV)"
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing Atoll and what developing it needs into $(VENV)"
	@$(INSTALL) --editable '.[dev]'
	@touch $(VENV)/.core $@
