# Two commands do everything: `make demo` and `make test`. Each makes the environments it needs and says what it does.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
# Seeds of `make simulate`: docs/reliability.md says how many a second.
SEEDS ?= 20000
BIN := .venv/bin

.PHONY: help setup setup-demo setup-test demo test image-test simulate lint docs generate bench clean

help: ## Say what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: ## Make all environments: .venv, .venv-cloud, .venv-lambda, .venv-sam, .venv-lint, .venv-docs
	@$(PYTHON) tools/setup.py all

setup-demo:
	@$(PYTHON) tools/setup.py demo

setup-test:
	@$(PYTHON) tools/setup.py test

demo: setup-demo ## One job, the whole way, on this machine: manifest to model, through one spot interruption
	@$(BIN)/dropforge local demo

test: setup-test ## Every test that runs without an account, a GPU or Docker
	@$(BIN)/python -m pytest

image-test: setup-test ## The image, built on a small base (IMAGE_TEST_BASE) and run as an instance runs it, where a Docker engine answers
	@IMAGE_TEST=1 $(BIN)/python -m pytest -s tests/agent/test_image.py tests/agent/test_built_image.py

simulate: setup-test ## The promises of docs/reliability.md: SEEDS random seeds, then every fault at every AWS call
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS)
	@$(BIN)/python -m tests.simulation exhaustive

lint: ## Linters: ruff, mypy, import directions, shell, template, generated files
	@$(PYTHON) tools/setup.py lint
	@$(BIN)/python -m tools.lint

docs: ## The documents as a site, in build/site: open build/site/index.html
	@$(PYTHON) tools/setup.py docs
	@.venv-docs/bin/mkdocs build --strict --quiet
	@echo "  build/site/index.html; with its search: $(PYTHON) -m http.server --bind 127.0.0.1 --directory build/site"

generate: ## Remake the generated files: schemas, reference pages, rooms, diagrams, instance types, template's user data
	@$(BIN)/python -m tools.schema
	@$(BIN)/python -m tools.state_machine
	@$(BIN)/python -m tools.cli_reference
	@$(BIN)/python -m tools.reference
	@$(BIN)/python -m tools.rooms
	@$(BIN)/python -m tools.diagrams --check || $(BIN)/python -m tools.diagrams
	@$(BIN)/python -m tools.instance_types
	@$(BIN)/python -m tools.embed_bootstrap

clean: ## Remove environments, caches and the local cloud's state
	rm -rf .venv .venv-cloud .venv-lambda .venv-sam .venv-lint .venv-docs build .cache .dropforge .pytest_cache .mypy_cache .ruff_cache *.egg-info
