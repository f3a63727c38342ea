# Every target works on a fresh machine: what is missing is installed by the files it depends on.
# CLUSTER=current makes demo and e2e use the present kubeconfig context instead of a cluster of ours.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
export PYTHONUNBUFFERED := 1

.DEFAULT_GOAL := help
.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Two stamps: the packages follow the lock, the project's own entry points its project file.
$(VENV)/.packages: requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or later is needed: set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Installing the pinned Python packages into $(VENV) (half a minute the first time) ..."
	@$(PYTHON) -m venv $(VENV) \
		|| { echo "error: Python's venv module is needed: apt-get install python3-venv" >&2; exit 1; }
	@$(PIP) --require-hashes -r requirements-dev.txt
	@touch $@

$(STAMP): $(VENV)/.packages pyproject.toml
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: venv
venv: $(STAMP) ## Install the pinned development environment into .venv

.PHONY: lock
lock: $(STAMP) ## Resolve the dependencies anew and write the two locks (hashes, no URLs)
	$(BIN)/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe --no-header \
		--no-emit-index-url --no-emit-find-links --extra dev -o requirements-dev.txt pyproject.toml
	$(BIN)/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe --no-header \
		--no-emit-index-url --no-emit-find-links -c requirements-dev.txt -o requirements.txt pyproject.toml
