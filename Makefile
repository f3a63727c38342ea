# Every target works on a fresh machine: its dependencies install what is missing.
# With CLUSTER=current, demo and e2e use the current kubeconfig context instead of a test cluster.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest -q
export PYTHONUNBUFFERED := 1

# Tests mostly wait, so several run in parallel. On a cluster that others use, one at a time.
JOBS     ?= 3
E2E_JOBS ?= $(if $(filter current,$(CLUSTER)),0,$(JOBS))
# The tests of programs take the longest. If they were last, one worker would end minutes after the others.
LONGEST_FIRST = tests/programs/ $(filter-out tests/programs/ tests/e2e/,$(wildcard tests/*/))

.DEFAULT_GOAL := help
.PHONY: help
help: ## Show this list of targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Two stamps: packages depend on the lock file, the project's entry points on pyproject.toml.
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
venv: $(STAMP) ## Install the pinned packages into .venv: half a minute

.PHONY: test
test: lint $(STAMP) ## Run lint and all tests except the longer forms, argocd, bench, mutants, oldest and soak
	@echo "== build the test cluster, Argo CD's Lua engine and kstatus"
	@$(BIN)/python -m tests.cluster prepare
	@$(BIN)/python -m tests.gitops prepare
	@echo "== unit, contract and cluster tests, $(JOBS) at a time"
	@$(PYTEST) -m alone tests/programs
	@$(PYTEST) -m "not alone and not argocd and not long" -n $(JOBS) --dist worksteal $(LONGEST_FIRST)
	@echo "== end-to-end tests, $(E2E_JOBS) at a time"
	@$(PYTEST) -m "not long" -n $(E2E_JOBS) --dist worksteal tests/e2e

.PHONY: lint
lint: $(STAMP) ## Check style, types, layers and language
	@echo "== style, types, layers, language"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports > $(VENV)/layers.log || { cat $(VENV)/layers.log; exit 1; }
	@$(BIN)/python -m tests.prose

.PHONY: unit
unit: $(STAMP) ## Run the tests that need no cluster: two minutes
	@$(PYTEST) tests/unit

.PHONY: fuzz
fuzz: $(STAMP) ## Check all readers with 100,000 hostile objects: three minutes; ARGS="COUNT SEED"
	@$(BIN)/python -m tests.fuzz $(ARGS)

.PHONY: faults
faults: $(STAMP) ## Inject faults into the operator's requests, the API server and a node: ten minutes
	@$(PYTEST) tests/contract/test_operator_faults.py tests/contract/test_operator_outage.py \
		tests/contract/test_operator_permissions.py tests/e2e/test_node_outages.py

.PHONY: deaths
deaths: $(STAMP) ## Let the operator die or pause at each write, and see old states: six minutes
	@INITPIPELINE_DEATHS=1 $(PYTEST) -n $(JOBS) tests/unit/runtime/test_deaths.py \
		tests/contract/test_operator_killed.py tests/contract/test_fencing.py \
		tests/e2e/test_operator_dies.py tests/e2e/test_scenarios.py

.PHONY: oracle
oracle: $(STAMP) ## Compare changed pipelines with new ones, for each field of spec: five minutes
	@INITPIPELINE_SEQUENCES=3000 $(PYTEST) -n $(JOBS) tests/unit/model/test_oracle.py \
		tests/e2e/test_oracle.py

.PHONY: mutants
mutants: $(STAMP) ## Change the core line by line, and list what no test notices: an hour; ARGS="MODULE"
	@$(BIN)/python -m tests.mutation $(ARGS)

.PHONY: e2e
e2e: $(STAMP) ## Run the tests on a real kubelet; CLUSTER=current: on yours
	@$(PYTEST) -m "not long" -n $(E2E_JOBS) --dist worksteal tests/e2e

.PHONY: e2e-namespaced
e2e-namespaced: $(STAMP) ## The same, with operators that have permissions in the namespace of the test only
	@INITPIPELINE_E2E_ROLE=namespace $(PYTEST) -m "not long" -n $(E2E_JOBS) --dist worksteal tests/e2e

.PHONY: generate
generate: $(STAMP) ## Generate crds/ and the tables of docs/ from the models and the metrics; starts an API server
	@$(BIN)/python -m crds.generate

.PHONY: oldest
oldest: $(STAMP) ## Run the contract tests on Kubernetes 1.30, which is built first
	@$(BIN)/python -m tests.cluster prepare --oldest
	@INITPIPELINE_CONTRACT_MODE=oldest $(PYTEST) -m "not newest" -n $(JOBS) tests/contract \
		--ignore=tests/contract/gitops

.PHONY: argocd
argocd: $(STAMP) ## Run the tests with a real Argo CD, which takes minutes to build
	@$(PYTEST) -m argocd -vvs tests/argocd

.PHONY: chart
chart: $(STAMP) ## Install, upgrade, roll back and uninstall the Helm chart on a real kubelet: 3 minutes
	@$(PYTEST) -m long tests/programs/test_chart.py

.PHONY: alerts
alerts: $(STAMP) ## Let each alert fire and clear, by real faults of real operators: 25 minutes
	@$(PYTEST) -m long -vs tests/monitoring

.PHONY: dashboard
dashboard: $(STAMP) ## Use the dashboard in a browser, on a real kubelet and under 2,000 pipelines: 10 minutes; SCREENSHOTS=docs
	@INITPIPELINE_SCREENSHOTS=$(SCREENSHOTS) $(PYTEST) -s -m long tests/browser \
		tests/e2e/test_dashboard.py

.PHONY: docs
docs: $(STAMP) ## Run the commands of the documents on a real kubelet: five minutes
	@$(PYTEST) -m long tests/programs/test_documents.py

.PHONY: upgrade
upgrade: $(STAMP) ## Upgrade and downgrade 200 pipelines in every state, on a real cluster: minutes; FROM=COMMIT
	@INITPIPELINE_UPGRADE_FROM=$(FROM) $(PYTEST) -s -m long tests/upgrade tests/contract/test_upgrade.py

.PHONY: demo
demo: $(STAMP) ## Show a pipeline and three faults on a real kubelet; CLUSTER=current: on yours
	@$(BIN)/python -m tests.demo

.PHONY: bench
bench: $(STAMP) ## Compare InitPipelines with Jobs and others, on fake nodes: six minutes; ARGS="--help"
	@$(BIN)/python -m tests.bench $(ARGS)

.PHONY: soak
soak: $(STAMP) ## Inject random faults for an hour, and judge 200 pipelines; SEED=N repeats; ARGS="--help"
	@$(BIN)/python -m tests.soak $(ARGS)

.PHONY: soak-short
soak-short: $(STAMP) ## The same in ten minutes
	@$(BIN)/python -m tests.soak --cycles 1 --seconds 420 $(ARGS)

.PHONY: fairness
fairness: $(STAMP) ## Measure new pipelines while another namespace is busy: three minutes; ARGS="PIPELINES"
	@$(BIN)/python -m tests.fairness $(ARGS)

.PHONY: run
run: $(STAMP) ## Run the operator in the foreground, on the cluster of KUBECONFIG; ARGS="--help"
	@$(BIN)/initpipeline run $(ARGS)

.PHONY: cluster-up
cluster-up: $(STAMP) ## Start a real Kubernetes on this machine, and wait until its node is Ready
	@$(BIN)/python -m tests.cluster up

.PHONY: cluster-down
cluster-down: $(STAMP) ## Stop it and delete all its data
	@$(BIN)/python -m tests.cluster down

.PHONY: cluster-kubeconfig
cluster-kubeconfig: $(STAMP) ## Print the path of its kubeconfig
	@$(BIN)/python -m tests.cluster kubeconfig

.PHONY: image
image: $(STAMP) ## Build the image without a registry, and import it into the cluster: 2 minutes
	@$(BIN)/python -m tests.image $(ARGS)

.PHONY: release
release: $(STAMP) ## Build all files of a release from this commit: 5 minutes; VERSION= OUTPUT= BASE= DOWNLOADS=
	@$(BIN)/python -m tests.release build $(if $(VERSION),--version $(VERSION)) \
		$(if $(OUTPUT),--output $(OUTPUT)) $(if $(BASE),--base $(BASE)) \
		$(if $(DOWNLOADS),--downloads $(DOWNLOADS)) $(ARGS)

.PHONY: release-test
release-test: $(STAMP) ## Build a release twice, and compare and run its files: 15 minutes
	@$(PYTEST) -m long tests/programs/test_release.py

.PHONY: audit
audit: $(STAMP) ## Compare the pinned packages with the published vulnerabilities
	@$(BIN)/python -m tests.release audit

.PHONY: licenses
licenses: $(STAMP) ## Generate docs/licenses.md from the installed packages
	@$(BIN)/python -m tests.release licenses

.PHONY: lock
lock: $(STAMP) ## Update the dependencies in the two lock files (hashes, no URLs)
	$(BIN)/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe --no-header \
		--no-emit-index-url --no-emit-find-links --extra dev --extra tracing \
		-o requirements-dev.txt pyproject.toml
	$(BIN)/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe --no-header \
		--no-emit-index-url --no-emit-find-links --extra tracing -c requirements-dev.txt \
		-o requirements.txt pyproject.toml
