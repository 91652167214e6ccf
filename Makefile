# Every command of the project. `make help` lists them; .ci/run calls the same ones.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
BENCH  := .venv-bench
JUDGES := .tools/judges
PIP    := -m pip --disable-pip-version-check install --quiet
# In an editable install setuptools comes from the lock, so nothing unlocked is fetched to build it.
EDITABLE := $(PIP) --no-deps --no-build-isolation --editable .
# Neither an index nor a path is written down: the hashes alone say what may be installed.
LOCK   := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
          --custom-compile-command "make lock"

# Three processes keep two cores busy, for many tests wait for what they have started.
SPREAD := --numprocesses 3 --dist worksteal

# Modules are compiled once, also where an image says otherwise: most tests start processes.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo run test proof bench lint style types pyright format tools judges containers examples wheel lock clean

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 20

# --- for users -------------------------------------------------------------------------------------------------

demo: $(VENV)/.demo tools ## the shop under fire, from an empty machine, in one command
	$(BIN)/python -m examples.shop.demo $(ARGS)

run: $(VENV)/.demo tools ## the same, and stay up to be looked at
	$(BIN)/python -m examples.shop.demo --stay $(ARGS)

# --- for developers --------------------------------------------------------------------------------------------

venv: $(VENV)/.dev ## .venv with everything below in it

test: $(VENV)/.dev tools ## the fast tests, judges included
	$(BIN)/pytest -q $(SPREAD) $(ARGS)

proof: $(VENV)/.dev tools ## the figures the README promises, as a table (FULL=1: at full length)
	@FULL=$(FULL) $(BIN)/pytest -q -m "proof and not alone" $(SPREAD) $(ARGS); first=$$?; \
	  FULL=$(FULL) $(BIN)/pytest -q -m "proof and alone" $(ARGS) && exit $$first

bench: $(BENCH)/.bench ## against the peers, as ratios measured in one run
	$(BENCH)/bin/python -m benchmarks.run $(ARGS)

lint: style types pyright ## ruff, mypy and pyright, all strict

style: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/shellcheck .ci/run tests/tools/fetch tests/tools/browser

types: $(VENV)/.dev
	$(BIN)/mypy

pyright: $(VENV)/.dev
	$(BIN)/pyright

format: $(VENV)/.dev ## let ruff rewrite what it can
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .

tools: ## fetch the outside judges (promtool, amtool, prometheus, alertmanager) into .tools/
	@tests/tools/fetch

judges: $(JUDGES)/.judges ## checkov, in a venv of its own, and a browser (minutes, 600 MB; their tests skip without them)
	@tests/tools/browser

containers: | $(BIN)/python ## podman and a local base image for the tests that start real containers (needs root)
	$(BIN)/python tests/tools/containers.py prepare

examples: $(VENV)/.demo ## write examples/shop/deploy anew; `git diff` then shows what a change means
	$(BIN)/mahavishnu generate --spec mahavishnu.yaml --out examples/shop/deploy

wheel: $(VENV)/.dev ## dist/*.whl
	rm -rf build dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist .

lock: $(VENV)/.dev ## resolve requirements/*.in again, with hashes
	$(LOCK) requirements/dev.in --output-file requirements/dev.txt $(ARGS)
	$(LOCK) requirements/demo.in --output-file requirements/demo.txt $(ARGS)
	$(LOCK) requirements/bench.in --output-file requirements/bench.txt $(ARGS)
	$(LOCK) requirements/judges.in --output-file requirements/judges.txt $(ARGS)

clean: ## remove everything these commands made, containers included
	@if [ -e .tools/containers ]; then $(PYTHON) tests/tools/containers.py clean; fi
	rm -rf $(VENV) $(BENCH) .tools build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache mutants
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find framework -name '*.egg-info' -type d -prune -exec rm -rf {} +

# --- environments: rebuilt only when their lock changes ----------------------------------------------------------

$(VENV)/.demo: requirements/demo.txt pyproject.toml | $(BIN)/python
	$(BIN)/python $(PIP) --require-hashes -r requirements/demo.txt
	$(BIN)/python $(EDITABLE)
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	$(BIN)/python $(PIP) --require-hashes -r requirements/dev.txt
	$(BIN)/python $(EDITABLE)
	@touch $@ $(VENV)/.demo

$(BENCH)/.bench: requirements/bench.txt pyproject.toml | $(BENCH)/bin/python
	$(BENCH)/bin/python $(PIP) --require-hashes -r requirements/bench.txt
	$(BENCH)/bin/python $(EDITABLE)
	@touch $@

$(JUDGES)/.judges: requirements/judges.txt | $(JUDGES)/bin/python
	$(JUDGES)/bin/python $(PIP) --require-hashes -r requirements/judges.txt
	@touch $@

%/bin/python:
	@$(PYTHON) --version >/dev/null 2>&1 || { \
	  echo "There is no \`$(PYTHON)\` here. mahavishnu needs Python 3.11 or newer: make PYTHON=/path/to/python3.12 …" >&2; \
	  exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "mahavishnu needs Python 3.11 or newer, and \`$(PYTHON)\` is $$($(PYTHON) --version 2>&1)." \
	    "Name another: make PYTHON=/path/to/python3.12 …" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "\`$(PYTHON)\` cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; \
	  exit 2; }
	$(PYTHON) -m venv --clear $*
