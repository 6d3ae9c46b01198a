# `make` lists what there is. VENV=DIR uses another environment than .venv; PYTHON=... makes it with that Python.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV ?= .venv
ROLE ?= cpu
BIN := $(VENV)/bin
PYTEST_ARGS ?=
BENCH_ARGS ?=
LAB_ARGS ?=
export PYTHONUNBUFFERED := 1
# A new environment is compiled by what imports it first; where that may not be kept, each process does it again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-17s %s\n", $$1, $$2 }'

.PHONY: setup
setup:  ## make or repair the environment (ROLE=base, manager, cpu, test or training; default: cpu)
	@environments/setup_local_env.sh $(ROLE) --venv "$(VENV)"

.PHONY: demo
demo:  ## train a small model with verl on this machine and show the report (about 10 minutes)
	@environments/setup_local_env.sh cpu --venv "$(VENV)"
	@$(BIN)/python -m verl_lab.reports notebooks/01_quickstart.ipynb
	@echo "Open the notebooks in JupyterLab: make lab"

.PHONY: setup-cpu
setup-cpu:
	@environments/setup_local_env.sh cpu --venv "$(VENV)"

.PHONY: labextension
labextension: setup-cpu  ## build the side panel where its sources changed, and show it to this environment's JupyterLab
	@$(BIN)/python labextension/build.py --link

.PHONY: lab
lab: labextension  ## open JupyterLab with the notebooks and the side panel (LAB_ARGS="--port 9999 ...")
	@$(BIN)/jupyter lab notebooks $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_ARGS)

# What trains runs beside all else: one waits for processes, the other for pages and files. Both take about as long.
TRAINING_TESTS := tests/training tests/verl_plugin

.PHONY: test
test: setup-test  ## check everything: environment, style, types, layers and all tests (about 20 minutes)
ifneq ($(strip $(PYTEST_ARGS)),)
	@$(MAKE) labextension-test lint
	@$(BIN)/python -m pytest -m "not gpu" $(PYTEST_ARGS)
else
	@set -m; home="$$(mktemp -d)"; \
	  { code=0; VERL_LAB_HOME="$$home/lab" $(BIN)/python -m pytest --nbval-lax --nbval-current-env \
	      --nbval-cell-timeout 1200 -p no:cacheprovider notebooks || code=1; \
	    $(BIN)/python -m pytest -m "not gpu" -p no:cacheprovider $(TRAINING_TESTS) || code=1; exit "$$code"; \
	  } > "$$home/training.log" 2>&1 & training=$$!; \
	  trap 'kill -- -$$training 2>/dev/null || true; rm -rf "$$home"' EXIT; \
	  $(MAKE_COMMAND) labextension-test lint; \
	  failed=0; $(BIN)/python -m pytest -m "not gpu" $(TRAINING_TESTS:%=--ignore %) || failed=1; \
	  wait $$training || failed=1; cat "$$home/training.log"; exit $$failed
endif

.PHONY: labextension-test
labextension-test: setup-test  ## build the side panel; check its style and types, and run its unit tests
	@$(BIN)/python labextension/build.py --link --test

.PHONY: test-faults
test-faults: setup-test  ## all rounds of the fault tests, where `make test` does a tenth
	@VERL_LAB_FAULT_SHARE=1 $(BIN)/python -m pytest -m "faults and not gpu" --timeout 7200 $(PYTEST_ARGS)

.PHONY: lint
lint: setup-test  ## style, types, layers, spelling
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright --pythonpath "$(BIN)/python"
	@$(BIN)/lint-imports
	@$(BIN)/codespell
	@$(BIN)/shellcheck environments/*.sh .ci/run

.PHONY: format
format: setup-test  ## let ruff mend what it can
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

.PHONY: bench
bench: setup-test  ## measure against the limits and the peers that are installed
	@for bench in tests/bench/*.py; do echo "== $$bench"; $(BIN)/python "$$bench" $(BENCH_ARGS); done

.PHONY: lock
lock: setup-test  ## resolve environments/*.in into the pinned *.txt (UPGRADE=1: take the newest)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python environments/lock.py $(if $(UPGRADE),--upgrade)

.PHONY: snapshot
snapshot: setup-test  ## take a snapshot of the installed verl's configuration, for checks without verl
	@$(BIN)/python environments/snapshot_verl.py

.PHONY: clean
clean:  ## remove what tools left, but no environment, run or report
	@rm -rf dist labextension/lib labextension/lib-tests build/labextension.log build/setup-*.log .pytest_cache .ruff_cache .import_linter_cache
	@find verl_lab tests environments -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: setup-test
setup-test:
	@environments/setup_local_env.sh test --venv "$(VENV)"
	@environments/system_parts.sh chromium
	@environments/system_parts.sh postgresql
	@environments/system_parts.sh sshd
	@environments/system_parts.sh network
