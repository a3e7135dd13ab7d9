# Every command a newcomer needs. CI runs `make test`, and nothing that is not here.
# The environments are made once, in $XDG_CACHE_HOME/triptych or ~/.cache/triptych.

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
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: ## start the chain, send it examples and serve until Ctrl-C; ONCE=1 ends after the examples
	@$(ENVIRONMENT) predictor >/dev/null
	@$(SERVICES) -m local $(if $(ONCE),--once)

.PHONY: test
test: lint verify ## everything: lint, types, layers, verify, then all tests (TESTS="tests/unit -k name" for some)
	@$(ENVIRONMENT) predictor kserve >/dev/null
	@$(SERVICES) -m pytest $(TESTS)

.PHONY: lint
lint: ## style (ruff), types (mypy --strict) and import layers (import-linter)
	@$(SERVICES) -m ruff check .
	@$(SERVICES) -m mypy
	@$(SERVICES) -m mypy services/predictor/backends/onnxruntime/model.py
	@python=$$($(ENVIRONMENT) services) && "$$(dirname "$$python")/lint-imports"

.PHONY: verify
verify: ## contracts against their models, and generated files against what they are generated from
	@$(SERVICES) -m triptych.contract verify model-repository
	@python=$$($(ENVIRONMENT) services) && "$$python" -m triptych.contract schema \
	  | diff -u docs/contract.schema.json - || { echo "docs/contract.schema.json is old: make schema"; exit 1; }
	@made=$$(mktemp -d) && trap 'rm -rf "$$made"' EXIT && python=$$($(ENVIRONMENT) services) \
	  && $(MAKE) proto PROTO_OUT="$$made" && for file in $$(cd "$$made" && find . -name '*_pb2*'); do \
	  diff -u "services/common/$$file" "$$made/$$file" || { echo "$$file is old: make proto"; exit 1; }; done

.PHONY: models
models: ## train and export all example models again (minutes; deterministic)
	@python=$$($(ENVIRONMENT) models) && PYTHONPATH=services/common exec "$$python" -m models build

.PHONY: accuracy
accuracy: ## accuracy on pictures that were not trained on, through a running chain (make run beside it)
	@$(SERVICES) -m models evaluate

PROTO_OUT ?= services/common
.PHONY: proto
proto: ## generate the stubs of triptych.proto again
	@$(SERVICES) -m grpc_tools.protoc -I services/common --python_out="$(PROTO_OUT)" --pyi_out="$(PROTO_OUT)" \
	  services/common/triptych/proto/repository.proto

.PHONY: schema
schema: ## generate docs/contract.schema.json again
	@python=$$($(ENVIRONMENT) services) && "$$python" -m triptych.contract schema > docs/contract.schema.json

.PHONY: perf-analyzer
perf-analyzer: ## bring NVIDIA's load generator here and print the start of its command line
	@$(SERVICES) -m local.perf

.PHONY: clean
clean: ## remove what tools left in the checkout, and the environments and logs in the cache
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis services/*/*.egg-info services/*/build
	@rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/triptych"
