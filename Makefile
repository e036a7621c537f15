# Works on a bare Python 3.11 with pip and make. Another interpreter: make PYTHON=python3.13 test;
# and beside the first one: make VENV=.venv-3.13 PYTHON=python3.13 test
PYTHON ?= $(shell for python in python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
DEV := $(VENV)/.dev-installed
CLI := $(VENV)/.cli-installed
EDITORS := $(VENV)/.editors-installed

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench soak bench-peers bench-redis schema pages docs

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null || \
		sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1: \2/p' $(MAKEFILE_LIST)

demo: $(if $(or $(SERVE),$(wildcard $(DEV))),$(DEV),$(CLI)) ## a service under resilience.yaml, live, in 15 seconds; SERVE=1 leaves it running
	$(BIN)/python -m $(if $(SERVE),aioresilience.cli.demo.serving,aioresilience demo)

test: $(DEV) $(EDITORS) ## all tests, with branch coverage; PYTEST_ARGS for more
	$(BIN)/python -m pytest -n 2 --cov --cov-report=term $(PYTEST_ARGS)

lint: $(DEV) ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(DEV) ## the figures, as ratios within one run
	$(BIN)/python -m benchmarks

bench-peers: $(DEV) ## other libraries beside ours, each in an environment of its own
	$(BIN)/python -m benchmarks.peers

soak: $(DEV) ## two minutes of calls while the file changes a thousand times
	$(BIN)/python tests/registry/soak.py

bench-redis: $(DEV) ## decisions a second on a real Redis server, beside other libraries
	$(BIN)/python -m benchmarks.redis

schema: $(DEV) ## write schemas/resilience.schema.json
	$(BIN)/python -m aioresilience schema --write

pages: $(DEV) ## write the pages of docs/ that are generated from the code
	$(BIN)/python -m aioresilience.cli.documenting

docs: $(DEV) ## run every block of README and docs, and every example
	$(BIN)/python -m pytest tests/house/test_docs.py

# Everything that CI installs is pinned, the build backend too: hence no build isolation.
$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt hatchling
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[all,dev]'
	@touch $@

# The language server of the editors, for their tests: npm and its Node come in a wheel, so that Python is enough.
$(EDITORS): tests/editors/package-lock.json | $(DEV)
	@mkdir -p $(VENV)/editors
	cp tests/editors/package.json tests/editors/package-lock.json $(VENV)/editors
	$(BIN)/npm ci --prefix $(VENV)/editors --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(CLI): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt hatchling
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[cli]'
	@touch $@

# A Python without ensurepip makes a venv all the same, and its own pip installs another into it.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo 'No Python 3.11 or later found: make PYTHON=/path/to/python' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { $(PYTHON) -m venv --clear --without-pip $(VENV) \
		&& $(PYTHON) -m pip --python $(BIN)/python install pip; }
