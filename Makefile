# Every command a newcomer needs, and the only ones that CI runs. The environments are created once, in
# $XDG_CACHE_HOME/triptych or ~/.cache/triptych.

PYTHON ?= python3
ENVIRONMENT = $(PYTHON) -m local.environments
SERVICES = python=$$($(ENVIRONMENT) services) && exec "$$python"

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

ifeq ($(shell command -v $(PYTHON)),)
$(error $(PYTHON) is missing: install Python 3.11 or 3.12, or name another one as in: make PYTHON=python3.11)
endif

.PHONY: help
help: ## list the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: ## start the stack, send it the examples and serve until Ctrl-C (ONCE=1: end after the examples; JOBS=1: with jobs; MODELS=: your own; EDITS=1: take edits)
	@$(ENVIRONMENT) predictor >/dev/null
	@$(SERVICES) -m local $(if $(ONCE),--once) $(if $(JOBS),--jobs) $(if $(EDITS),--edits) $(if $(MODELS),--models "$(MODELS)") $(if $(SERVED_MODELS),--served-models "$(SERVED_MODELS)")

# Tests mostly wait, so two processes share them. WORKERS=0 runs them one after the other.
WORKERS ?= 2
.PHONY: test
test: lint verify ## run lint and verify, then all tests (TESTS="tests/unit -k name": some)
	@$(ENVIRONMENT) predictor kserve backend own-models converters transformers >/dev/null
	@$(PYTHON) -m local.programs grpcurl helm kubeconform chromium postgres >/dev/null || true
	@$(SERVICES) -m pytest $(TESTS) --numprocesses $(WORKERS)

.PHONY: test-long
test-long: ## run the tests that make test leaves out for their time
	@$(ENVIRONMENT) predictor >/dev/null
	@$(PYTHON) -m local.programs postgres >/dev/null || true
	@LONG=1 && export LONG && $(SERVICES) -m pytest -m long $(TESTS)

.PHONY: test-engines
test-engines: ## run batches on a real Ray and a real Spark, each in an environment of its own (needs Java 17)
	@$(ENVIRONMENT) ray spark >/dev/null
	@LONG=1 && export LONG && $(SERVICES) -m pytest tests/engines $(TESTS)

.PHONY: test-clients
test-clients: ## build gRPC clients of other languages, and test that a restart costs them no call
	@$(PYTHON) -m local.programs.clients
	@LONG=1 && export LONG && $(SERVICES) -m pytest tests/component/test_clients.py

.PHONY: conformance
conformance: ## build h2spec and gRPC's interop clients (Go, Node), and run them against each server
	@$(PYTHON) -m local.programs.clients conformance
	@$(SERVICES) -m pytest tests/component/test_h2spec.py tests/component/test_interop.py

.PHONY: hostile
hostile: ## attack a server's HTTP/2 for SECONDS (60) each, beside good calls, and print its time and memory
	@HOSTILE_SECONDS=$(SECONDS) && export HOSTILE_SECONDS && $(SERVICES) -m pytest tests/component/test_hostile_streams.py -rP

.PHONY: lint
lint: ## check style (ruff), retired words, types (mypy --strict) and import layers (import-linter)
	@$(SERVICES) -m ruff check .
	@$(SERVICES) -m tools.words
	@$(SERVICES) -m mypy
	@$(SERVICES) -m mypy services/predictor/backends/onnxruntime/model.py
	@python=$$($(ENVIRONMENT) services) && "$$(dirname "$$python")/lint-imports"

.PHONY: verify
verify: ## check the model repository, the version, and that generated files are up to date
	@$(SERVICES) -m triptych_cli verify model-repository
	@$(SERVICES) -m tools.version >/dev/null
	@python=$$($(ENVIRONMENT) services) && "$$python" -m triptych_cli.plan.costs benchmarks/results/serving/results.json \
	  | diff -u cli/triptych_cli/plan/costs.json - || { echo "cli/triptych_cli/plan/costs.json is old: make costs"; exit 1; }
	@python=$$($(ENVIRONMENT) services) && "$$python" -m triptych_cli schema --built-in \
	  | diff -u docs/contract.schema.json - || { echo "docs/contract.schema.json is old: make schema"; exit 1; }
	@python=$$($(ENVIRONMENT) services) && "$$python" -m triptych_cli batch schema \
	  | diff -u docs/batch.schema.json - || { echo "docs/batch.schema.json is old: make schema"; exit 1; }
	@python=$$($(ENVIRONMENT) services) && "$$python" -m controller.kubernetes.crd \
	  | diff -u helm/triptych/crds/servedmodels.yaml - || { echo "helm/triptych/crds/servedmodels.yaml is old: make crd"; exit 1; }
	@made=$$(mktemp -d) && trap 'rm -rf "$$made"' EXIT && python=$$($(ENVIRONMENT) services) \
	  && $(MAKE) proto PROTO_OUT="$$made" && for file in $$(cd "$$made" && find . -name '*_pb2*'); do \
	  diff -u "services/triptych/$$file" "$$made/$$file" || { echo "$$file is old: make proto"; exit 1; }; done
	@made=$$(mktemp -d) && trap 'rm -rf "$$made"' EXIT && python=$$($(ENVIRONMENT) services) \
	  && "$$python" -m tools.chart.describe helm/triptych "$$made" && for file in README.md values.schema.json; do \
	  diff -u "helm/triptych/$$file" "$$made/$$file" || { echo "helm/triptych/$$file is old: make chart"; exit 1; }; done
	@$(SERVICES) -m tools.reference --check

.PHONY: e2e
e2e: ## run the tests on the cluster of KUBECONFIG, each in a namespace of its own
	@$(PYTHON) -m local.programs helm3 helm4 kubeconform >/dev/null || true
	@$(CLUSTER_ENV); python=$$($(ENVIRONMENT) services); "$$python" -m tests.e2e.images; exec "$$python" -m pytest tests/e2e $(TESTS) --numprocesses $(WORKERS)

# A package that the vulnerability service does not know fails it too.
.PHONY: audit
audit: ## look up known vulnerabilities of every pinned package (needs the JSON pages of PyPI; AUDIT="-s osv": by OSV)
	@python=$$($(ENVIRONMENT) audit) && "$$python" -m tools.audit $(AUDIT)

SBOM ?= build/sbom
.PHONY: sbom
sbom: ## write bills of materials (CycloneDX) of the images' Python packages into SBOM=build/sbom
	@python=$$($(ENVIRONMENT) audit) && mkdir -p "$(SBOM)" \
	  && for folder in services/triptych services/controller client services/jobs services/predictor examples/backend; do \
	  "$$python" -m cyclonedx_py requirements "$$folder/requirements.txt" --of JSON -o "$(SBOM)/$${folder##*/}.cdx.json" \
	  && echo "$(SBOM)/$${folder##*/}.cdx.json"; done

KILLS ?= 1000
OUTAGES ?= 10
.PHONY: jobs-kills
jobs-kills: ## kill and stop workers of jobs KILLS times (1000), on SQLite and Postgres, and count the rows lost, doubled or mixed; then kill each other part OUTAGES times (10)
	@$(SERVICES) -m tests.integration.jobs.kills sqlite postgres --kills $(KILLS)
	@LONG=1 OUTAGES=$(OUTAGES) && export LONG OUTAGES && $(SERVICES) -m pytest tests/integration/test_jobs_outages.py

SECONDS ?= 60
FUZZ ?= pictures wire http2 config contracts documents listings
.PHONY: fuzz
fuzz: ## run each fuzzer for SECONDS; finds are kept in fuzz-found (FUZZ="pictures wire config": some)
	@python=$$($(ENVIRONMENT) services); status=0; \
	  for name in $(FUZZ); do "$$python" -m tests.fuzz $$name --seconds $(SECONDS) || status=1; done; exit $$status

SERVER ?= http2
.PHONY: soak
soak: ## run good and bad clients of one server for SECONDS (3600: an hour); memory must stay flat, no good call fail (SERVER=)
	@$(SERVICES) -m tests.fuzz.soak --seconds $(SECONDS) --server $(SERVER)

.PHONY: models
models: ## train and export all example models (minutes; deterministic)
	@python=$$($(ENVIRONMENT) models) && PYTHONPATH=services/triptych exec "$$python" -m examples.models build

.PHONY: accuracy
accuracy: ## measure the accuracy on held-out pictures through a running stack (beside make run)
	@$(SERVICES) -m examples.models evaluate

PROTO_OUT ?= services/triptych
.PHONY: proto
proto: ## generate the stubs of our own services
	@$(SERVICES) -m grpc_tools.protoc -I services/triptych --python_out="$(PROTO_OUT)" --pyi_out="$(PROTO_OUT)" \
	  services/triptych/triptych/protocol/*.proto

.PHONY: schema
schema: ## generate docs/contract.schema.json and docs/batch.schema.json
	@python=$$($(ENVIRONMENT) services) && "$$python" -m triptych_cli schema --built-in > docs/contract.schema.json
	@python=$$($(ENVIRONMENT) services) && "$$python" -m triptych_cli batch schema > docs/batch.schema.json

.PHONY: reference
reference: ## generate the tables of docs/reference: settings, errors, metrics, contract steps
	@$(SERVICES) -m tools.reference

.PHONY: crd
crd: ## generate the CRD of ServedModel
	@python=$$($(ENVIRONMENT) services) && "$$python" -m controller.kubernetes.crd > helm/triptych/crds/servedmodels.yaml

.PHONY: images
images: ## build all container images (docker, podman, buildah or the development cluster; TAG= BASE= BUILD= PLATFORM=)
	@tools/images.sh

.PHONY: chart
chart: ## generate the chart's README.md and values.schema.json from the comments of its values.yaml
	@$(SERVICES) -m tools.chart.describe helm/triptych

.PHONY: manifests
manifests: chart ## render the chart into manifests/ (needs helm, or Go to build it)
	@$(PYTHON) -m local.programs helm >/dev/null
	@$(SERVICES) -m tools.chart.render

.PHONY: version-set
version-set: ## set the version of packages, chart and image tags: make version-set VERSION=0.2.0
	@$(SERVICES) -m tools.version "$(or $(VERSION),$(error want a version: make version-set VERSION=0.2.0))"
	@$(MAKE) manifests

.PHONY: schemas
schemas: ## validate manifests/ by the schemas of the cluster of KUBECONFIG (needs kubeconform, or Go)
	@$(PYTHON) -m local.programs kubeconform >/dev/null
	@$(CLUSTER_ENV); $(SERVICES) -m tools.chart.schemas

# The cluster of KUBECONFIG, else the development cluster (TRIPTYCH_CLUSTER).
CLUSTER_ENV = if [[ -z "$${KUBECONFIG:-}" ]] && tools/cluster.sh exists; then eval "$$(tools/cluster.sh env)"; fi
NAMESPACE ?= triptych
MODE ?= Standard
.PHONY: deploy
deploy: ## install or upgrade the chart on the cluster of KUBECONFIG, and test it (NAMESPACE= MODE= HELM_OPTIONS=)
	@$(CLUSTER_ENV); helm=$$($(PYTHON) -m local.programs helm); "$$helm" upgrade --install triptych helm/triptych \
	  --namespace $(NAMESPACE) --create-namespace --set mode=$(MODE) $(HELM_OPTIONS) && "$$helm" test triptych --namespace $(NAMESPACE)

.PHONY: undeploy
undeploy: ## uninstall the chart
	@$(CLUSTER_ENV); helm=$$($(PYTHON) -m local.programs helm); "$$helm" uninstall triptych --namespace $(NAMESPACE) --wait

.PHONY: kind-up
kind-up: ## create a kind cluster and load the images (then: make deploy MODE=Deployment, or install KServe first)
	@kind create cluster --name triptych
	@BUILD="docker build" tools/images.sh
	@tag=$$(sed -n 's/^version: //p' helm/triptych/Chart.yaml); for image in preprocess postprocess controller jobs triton-cpu models backend; do \
	  kind load docker-image --name triptych "triptych/$$image:$$tag"; done

.PHONY: kind-down
kind-down: ## delete the kind cluster
	@kind delete cluster --name triptych

.PHONY: perf-analyzer
perf-analyzer: ## download NVIDIA's load generator, and print a command line for each stage
	@$(SERVICES) -m local.programs.perf

.PHONY: bench
bench: ## measure Triptych and its peers into benchmarks/results/serving: an hour on an idle machine (BENCH="--workloads W1")
	@$(ENVIRONMENT) predictor bench-ensemble bench-kserve bench-ray >/dev/null
	@python=$$($(ENVIRONMENT) benchmarks) && exec "$$python" -m benchmarks serving $(BENCH)

.PHONY: bench-quick
bench-quick: ## compare CPU per request with the committed figures, under 3 minutes (KEEP=1: keep the new ones)
	@$(ENVIRONMENT) predictor >/dev/null
	@python=$$($(ENVIRONMENT) benchmarks) && exec "$$python" -m benchmarks quick $(if $(KEEP),--keep)

.PHONY: plan
plan: ## compute replicas for a load, grouped and separate (PLAN="--requests 500 --p99 50ms --workload sales")
	@$(SERVICES) -m triptych_cli plan $(PLAN)

.PHONY: costs
costs: ## generate the costs of `triptych plan` from the results of make bench
	@python=$$($(ENVIRONMENT) services) && "$$python" -m triptych_cli.plan.costs benchmarks/results/serving/results.json > cli/triptych_cli/plan/costs.json

.PHONY: bench-placement
bench-placement: ## measure many models on few predictors into benchmarks/results: 40 minutes on an idle machine
	@$(ENVIRONMENT) predictor >/dev/null
	@python=$$($(ENVIRONMENT) benchmarks) && for name in policy control-plane cost placement; do "$$python" -m benchmarks $$name; done

.PHONY: clean
clean: ## remove what tools left in the checkout, and the environments and logs in the cache
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis services/*/*.egg-info services/*/build
	@rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/triptych"
