# One command per habit; `make` lists them. Everything runs from .venv, which the first command makes with uv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
RUN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTHON ?= python3
PYTEST_ARGS ?=
ROWS ?=

.PHONY: help
help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

.PHONY: install
install: $(STAMP) ## Make .venv and install everything, as locked

$(STAMP): pyproject.toml requirements.lock scripts/install.sh
	@bash scripts/install.sh $(VENV) $(PYTHON)
	@touch $@

.PHONY: demo
demo: $(STAMP) ## See the whole method at work, over HTTP, in a few minutes
	@$(RUN)/synesthesia demo

.PHONY: serve
serve: $(STAMP) ## Start the service at http://127.0.0.1:8000 (data below ./data)
	@$(RUN)/synesthesia serve

.PHONY: test
test: $(STAMP) lint ## Lint, then every test but those that take minutes
	@bash scripts/test.sh $(RUN) "not slow" $(PYTEST_ARGS)

.PHONY: test-all
test-all: $(STAMP) lint ## Every test, the slow ones too
	@bash scripts/test.sh $(RUN) "" $(PYTEST_ARGS)

.PHONY: faults
faults: $(STAMP) ## Run every row of the fault table and write docs/faults.md and the README's table
	@bash scripts/test_services.sh
	@OMP_NUM_THREADS=1 FUZZ_FACTOR=10 $(RUN)/python -m tests.faults.report --write $(ROWS)

.PHONY: soak
soak: $(STAMP) ## MINUTES of load with a random fault every 30 s, chosen by SEED; told in the file REPORT
	@OMP_NUM_THREADS=1 $(RUN)/python -m tests.faults.soak --minutes $(or $(MINUTES),30) $(if $(SEED),--seed $(SEED)) $(if $(REPORT),--report $(REPORT))

.PHONY: lint
lint: $(STAMP) ## Ruff, mypy (strict), import contracts
	@$(RUN)/ruff format --check --quiet .
	@$(RUN)/ruff check --quiet .
	@$(RUN)/mypy
	@$(RUN)/lint-imports --no-cache

.PHONY: format
format: $(STAMP) ## Let ruff put the code into shape
	@$(RUN)/ruff format .
	@$(RUN)/ruff check --fix .

.PHONY: contract
contract: $(STAMP) ## Write openapi.json anew: the HTTP contract changes on purpose
	@$(RUN)/python -m app.openapi

.PHONY: lock
lock: $(STAMP) ## Resolve requirements.lock anew from pyproject.toml
	@.uv/bin/uv pip compile --universal --no-header --all-extras --quiet --upgrade pyproject.toml -o requirements.lock

.PHONY: clean
clean: ## Remove environment and caches; data stays
	@rm -rf .venv .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
