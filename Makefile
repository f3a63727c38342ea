# Every target works on a fresh machine: what is missing is installed by the files it depends on.
# CLUSTER=current makes demo and e2e use the present kubeconfig context instead of a cluster of ours.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest -q
export PYTHONUNBUFFERED := 1

# End-to-end tests wait more than they work. On somebody else's cluster they go one at a time.
JOBS     ?= 3
E2E_JOBS ?= $(if $(filter current,$(CLUSTER)),0,$(JOBS))

.DEFAULT_GOAL := help
.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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

.PHONY: test
test: lint $(STAMP) ## Everything CI runs: lint, types, layers, unit, contract, cluster and e2e tests
	@echo "== what the test clusters are made of, and Argo CD's Lua engine with kstatus"
	@$(BIN)/python -m tests.cluster prepare
	@$(BIN)/python -m tests.gitops prepare
	@echo "== unit, contract, cluster and end-to-end tests, $(JOBS) at a time"
	@$(PYTEST) -m alone tests/programs
	@$(PYTEST) -m "not alone and not argocd" -n $(JOBS) --dist worksteal tests

.PHONY: lint
lint: $(STAMP) ## Lint, types and layers alone
	@echo "== lint, types, layers"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports > $(VENV)/layers.log || { cat $(VENV)/layers.log; exit 1; }

.PHONY: unit
unit: $(STAMP) ## The tests that need no cluster: seconds
	@$(PYTEST) tests/unit

.PHONY: fuzz
fuzz: $(STAMP) ## 100,000 hostile objects against all that reads them: three minutes; ARGS="COUNT SEED"
	@$(BIN)/python -m tests.fuzz $(ARGS)

.PHONY: e2e
e2e: $(STAMP) ## The tests on a real kubelet alone; CLUSTER=current: on the present context
	@$(PYTEST) -n $(E2E_JOBS) --dist worksteal tests/e2e

.PHONY: generate
generate: $(STAMP) ## Write crds/ and the tables of docs/reference.md, from the models and the schema of a Pod
	@$(BIN)/python -m crds.generate

.PHONY: oldest
oldest: $(STAMP) ## The operator, the policy and the plugin on an API server of Kubernetes 1.30: builds it
	@$(BIN)/python -m tests.cluster prepare --oldest
	@INITPIPELINE_CONTRACT_MODE=oldest $(PYTEST) -m "not newest" -n $(JOBS) tests/contract

.PHONY: argocd
argocd: $(STAMP) ## InitPipelines in git, synced by a real Argo CD, which takes minutes to build
	@$(PYTEST) -m argocd -vvs tests/argocd

.PHONY: demo
demo: $(STAMP) ## A pipeline on a real kubelet, broken in three ways: a minute; CLUSTER=current: there
	@$(BIN)/python -m tests.demo

.PHONY: bench
bench: $(STAMP) ## InitPipelines beside Jobs, on fake nodes: six minutes; ARGS="--help"
	@$(BIN)/python -m tests.bench $(ARGS)

.PHONY: run
run: $(STAMP) ## The operator in the foreground, against the cluster of KUBECONFIG; ARGS="--help"
	@$(BIN)/initpipeline run $(ARGS)

.PHONY: cluster-up
cluster-up: $(STAMP) ## A real Kubernetes on this machine; ends when its node is Ready
	@$(BIN)/python -m tests.cluster up

.PHONY: cluster-down
cluster-down: $(STAMP) ## Take it down; nothing is left behind
	@$(BIN)/python -m tests.cluster down

.PHONY: cluster-kubeconfig
cluster-kubeconfig: $(STAMP) ## Print the path of its kubeconfig
	@$(BIN)/python -m tests.cluster kubeconfig

.PHONY: image
image: $(STAMP) ## The operator's image, without a registry, into the cluster if it is up: 2 minutes
	@$(BIN)/python -m tests.image $(ARGS)

.PHONY: lock
lock: $(STAMP) ## Resolve the dependencies anew and write the two locks (hashes, no URLs)
	$(BIN)/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe --no-header \
		--no-emit-index-url --no-emit-find-links --extra dev -o requirements-dev.txt pyproject.toml
	$(BIN)/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe --no-header \
		--no-emit-index-url --no-emit-find-links -c requirements-dev.txt -o requirements.txt pyproject.toml
