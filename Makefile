# `make demo` and `make test` set up everything they need; `make help` lists the rest.

PYTHON ?= python3.11
# GPU=1 builds Horovod for CUDA and NCCL instead of the CPU.
GPU ?= 0
# The two environments; .ci/run puts them elsewhere to build them anew.
GANREC_VENV ?= .venv
GANREC_AIRFLOW_VENV ?= .venv-airflow
export GANREC_AIRFLOW_VENV

BIN := $(GANREC_VENV)/bin
# Without these, Spark's workers take whatever python3 is first on the PATH.
export PYSPARK_PYTHON := $(abspath $(BIN)/python)
export PYSPARK_DRIVER_PYTHON := $(PYSPARK_PYTHON)

# An environment is complete when its stamp is there; it is made again when what it was made from changes.
STAMP := $(GANREC_VENV)/made-gpu$(GPU)
AIRFLOW_STAMP := $(GANREC_AIRFLOW_VENV)/made
FROM := requirements/bootstrap.txt scripts/make_venv.sh setup.py

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env airflow demo test check lint lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(STAMP) ## make .venv: locked requirements, Horovod, the ganrec command (GPU=1: for CUDA and NCCL)

$(STAMP): requirements/dev.txt requirements/horovod.txt scripts/build_horovod.py $(FROM)
	@scripts/check_prerequisites.sh $(PYTHON)
	@echo "environment: downloading and installing the locked requirements into $(GANREC_VENV)"
	@scripts/make_venv.sh $(GANREC_VENV) requirements/dev.txt $(PYTHON)
	@wheel=$$($(BIN)/python scripts/build_horovod.py $(if $(filter 1,$(GPU)),--gpu)) && \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --compile-bytecode "$$wheel"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

airflow: $(AIRFLOW_STAMP) ## make .venv-airflow, the scheduler's own environment

$(AIRFLOW_STAMP): requirements/airflow.txt $(FROM)
	@echo "environment: downloading and installing Airflow into $(GANREC_AIRFLOW_VENV)"
	@scripts/make_venv.sh $(GANREC_AIRFLOW_VENV) requirements/airflow.txt $(PYTHON)
	@touch $@

demo: env ## raw ratings to published recommendations on a generated world, or on yours: DATA=ratings.csv
	@$(BIN)/ganrec demo $(if $(DATA),--data "$(DATA)")

test: ## everything CI needs: the checks, then every test
	@$(MAKE) --no-print-directory -j2 env airflow
	@$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest

check: env lint ## about a minute, no Spark: lint, types, dependency direction, unit tests
	$(BIN)/python -m pytest -m "unit or architecture"

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: env ## compile the locks again from requirements/*.in
	@$(PYTHON) scripts/lock.py

clean: ## remove environments and caches, but no lake and no cached wheel
	rm -rf $(GANREC_VENV) $(GANREC_AIRFLOW_VENV) build dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
