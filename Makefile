# Every task, the same on a laptop and in CI. `make` or `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PHOTOS ?= photos
TESTS ?= tests/unit tests/repo tests/model tests/integration tests/e2e
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint .ci/constraints.txt

# More processes than cores: tests that start Ray wait most of their time. Faults have the machine to themselves.
SHARED := tests/unit% tests/repo% tests/model% tests/integration% tests/e2e%
PARALLEL := $(if $(filter-out $(SHARED),$(TESTS)),,-n 3 --dist loadscope --no-loadscope-reorder)
# Unit tests and checks of the tree need no weights.
WEIGHTS := $(if $(filter-out tests/unit% tests/repo%,$(TESTS)),weights)

.DEFAULT_GOAL := help
.PHONY: help demo check weights test lint format docs bench clean

help:  ## List the tasks
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: $(VENV)/.demo  ## Set up, fetch the weights, cut out real photos (PHOTOS=folder adds yours)
	@$(BIN)/python -m pipelines.demo $(PHOTOS)

check: lint  ## Check what can be checked in two minutes: style, types, import rules and unit tests; no weights needed
	$(BIN)/python -m pytest -q -n 2 --dist loadscope tests/unit

weights: $(VENV)/.dev  ## Fetch the weights that the tests use
	$(BIN)/cutray models pull u2net u2netp

test: $(VENV)/.dev $(WEIGHTS)  ## Run the tests (TESTS=tests/unit runs some; TESTS=tests/fault kills processes, takes long)
	$(BIN)/python -m pytest $(PARALLEL) $(TESTS)

lint: $(VENV)/.dev  ## Check format, style, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## Format the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.dev  ## Build the site of the documentation into out/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "out/site/index.html"

bench: $(VENV)/.dev $(VENV)-rembg/.ready  ## Measure speed side by side with rembg; renews docs/benchmarks/
	$(BIN)/cutray bench --rembg-python $(VENV)-rembg/bin/python --overwrite --output docs/benchmarks/photo.md
	$(BIN)/cutray bench batch -m u2net-lean-288 --rembg $(VENV)-rembg/bin/rembg --overwrite --output docs/benchmarks/folder.md -- --quality fast
	$(BIN)/cutray bench servers -m u2net-lean-288 --rembg $(VENV)-rembg/bin/rembg --overwrite --output docs/benchmarks/endpoint.md
	$(BIN)/cutray bench cpu --overwrite --output docs/benchmarks/networks.md

clean:  ## Remove the environments and what the tools left
	rm -rf $(VENV) $(VENV)-rembg out dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml .ci/constraints.txt | $(BIN)/python
	@echo "installing into $(VENV) ..."
	@$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml .ci/constraints.txt | $(BIN)/python
	@echo "installing into $(VENV) ..."
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.demo

$(VENV)-rembg/.ready:
	$(PYTHON) -m venv $(VENV)-rembg
	$(VENV)-rembg/bin/python -m pip install --quiet --disable-pip-version-check 'rembg[cpu,cli]==2.0.86'
	@touch $@
