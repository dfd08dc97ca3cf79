# Two commands do everything: `make demo` and `make test`. Each creates what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Without setuptools' reminder that an editable installation is one. Whatever else pip says is shown.
PIP := PYTHONWARNINGS='ignore:Editable installation' $(BIN)/pip

.DEFAULT_GOAL := help
.PHONY: help demo test soak lint fix bench check-tools clean

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.demo ## Run the gateway in front of two real scoring containers
	$(BIN)/scoring-gateway demo

test: $(VENV)/.test $(VENV)/.sslyze check-tools lint ## Lint, type-check and run every test
	$(BIN)/pytest

soak: $(VENV)/.test ## Try for a quarter of an hour to make batching change an answer
	SOAK=1 $(BIN)/pytest tests/e2e/test_batching_differential.py tests/e2e/test_batching_privacy.py

lint: $(VENV)/.test ## Check style, types and the Dockerfile
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

fix: $(VENV)/.test ## Repair what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.bench ## Measure the gateway beside nginx, HAProxy and an aiohttp application
	$(BIN)/python -m benchmarks

.PHONY: bench-batch
bench-batch: $(VENV)/.bench ## Measure batching, and replace the results in the repository
	$(BIN)/python -m benchmarks batching --publish

check-tools: ## Install the Debian programs that tests use, where that is possible
	@scripts/tools.sh chromium slowhttptest openssl curl $(if $(REQUIRE_TOOLS),prometheus systemd-analyze:systemd)

clean: ## Remove everything that was made
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade pip

$(VENV)/.demo: pyproject.toml $(VENV)/bin/python
	$(PIP) install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.test: pyproject.toml $(VENV)/bin/python
	$(PIP) install --quiet --editable '.[test]'
	@touch $@ $(VENV)/.demo

# On its own: it wants an older cryptography than the gateway is tested with.
$(VENV)/.sslyze: $(VENV)/bin/python
	$(PYTHON) -m venv $(VENV)/sslyze
	$(VENV)/sslyze/bin/pip install --quiet 'sslyze>=6.3,<7'
	@touch $@

$(VENV)/.bench: pyproject.toml $(VENV)/bin/python
	$(PIP) install --quiet --editable '.[bench]'
	@touch $@
