# `make demo` and `make test` set up everything they need; `make help` lists the rest.

PYTHON ?= python3.11
# GPU=1 builds Horovod for CUDA and NCCL instead of the CPU.
GPU ?= 0
# Where the environments live; .ci/run puts the first two elsewhere to build them anew.
GANREC_VENV ?= .venv
GANREC_AIRFLOW_VENV ?= .venv-airflow
GANREC_PEERS_VENV ?= .venv-peers
GANREC_DOCS_VENV ?= .venv-docs
GANREC_S3_VENV ?= .venv-s3
GANREC_KAFKA ?= .kafka
export GANREC_KAFKA GANREC_AIRFLOW_VENV GANREC_PEERS_VENV GANREC_S3_VENV

BIN := $(GANREC_VENV)/bin
UV := $(BIN)/uv
# Without these, Spark's workers take whatever python3 comes first on the PATH.
export PYSPARK_PYTHON := $(abspath $(BIN)/python)
export PYSPARK_DRIVER_PYTHON := $(PYSPARK_PYTHON)

# Downloads wait for the network while compilers use the CPUs: two at a time save a minute of a first set-up.
MAKEFLAGS += --jobs=2 --no-print-directory

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env airflow peers s3 kafka docs demo test test-long test-cluster check lint lock clean prerequisites package postgresql chromium cluster-up cluster-down

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-9s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

# An environment is made in steps. Each leaves a stamp inside it and is made again when what it was made from
# changes; a new lock starts from nothing, because it takes the folder and all stamps with it.
LOCKED := $(GANREC_VENV)/locked
HOROVOD := $(GANREC_VENV)/horovod-gpu$(GPU)
INSTALLED := $(GANREC_VENV)/installed
AIRFLOW := $(GANREC_AIRFLOW_VENV)/locked
PEERS := $(GANREC_PEERS_VENV)/locked
KAFKA := $(GANREC_KAFKA)/installed
DOCS := $(GANREC_DOCS_VENV)/locked
S3 := $(GANREC_S3_VENV)/locked
MADE_BY := requirements/bootstrap.txt scripts/make_venv.sh

env: $(HOROVOD) $(INSTALLED) ## make .venv: locked requirements, Horovod, Iceberg, the ganrec command (GPU=1: for CUDA)

prerequisites:
	@scripts/check_prerequisites.sh $(PYTHON) $(GPU)

$(LOCKED): requirements/dev.txt $(MADE_BY) | prerequisites
	@echo "environment: installing the locked requirements into $(GANREC_VENV) (3 GB to download, the first time)"
	@scripts/make_venv.sh $(GANREC_VENV) requirements/dev.txt $(PYTHON)
	@touch $@

$(HOROVOD): $(LOCKED) requirements/horovod.txt scripts/build_horovod.py
	@rm -f $(GANREC_VENV)/horovod-gpu*
	@wheel=$$($(BIN)/python scripts/build_horovod.py $(if $(filter 1,$(GPU)),--gpu)) && \
	  $(UV) pip install --quiet --python $(BIN)/python --no-deps --reinstall --compile-bytecode "$$wheel"
	@touch $@

# sections.py names the jars; spark-submit finds them only beside Spark itself.
$(INSTALLED): $(LOCKED) setup.py ganrec_spark/config/sections.py
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@$(BIN)/ganrec install-jars >$(GANREC_VENV)/install-jars.log 2>&1 || { cat $(GANREC_VENV)/install-jars.log >&2; \
	  echo "environment: could not get Iceberg's jars; without a way to Maven, name local ones in spark.jars" >&2; exit 1; }
	@touch $@

airflow: $(AIRFLOW) ## make .venv-airflow, the scheduler's own environment

$(AIRFLOW): requirements/airflow.txt $(MADE_BY) | prerequisites
	@echo "environment: installing Airflow into $(GANREC_AIRFLOW_VENV)"
	@scripts/make_venv.sh $(GANREC_AIRFLOW_VENV) requirements/airflow.txt $(PYTHON)
	@touch $@

peers: $(PEERS) ## make .venv-peers: RecTools, for the sequential peers of benchmarks/quality.py

$(PEERS): requirements/peers.txt $(MADE_BY) | prerequisites
	@echo "environment: installing RecTools into $(GANREC_PEERS_VENV) (Torch again, 3 GB, the first time)"
	@scripts/make_venv.sh $(GANREC_PEERS_VENV) requirements/peers.txt $(PYTHON)
	@touch $@

docs: env $(DOCS) ## the documentation site, build/site/index.html, from docs/, the tables and the keys
	@$(BIN)/python scripts/make_docs.py build/site-src
	@NO_MKDOCS_2_WARNING=1 $(GANREC_DOCS_VENV)/bin/mkdocs build --strict  # --quiet would pass over broken links

$(DOCS): requirements/docs.txt $(MADE_BY) | prerequisites
	@scripts/make_venv.sh $(GANREC_DOCS_VENV) requirements/docs.txt $(PYTHON)
	@touch $@

s3: $(S3) ## make .venv-s3: a local S3 server, for the tests of lakes in a store (make test-cluster SELECT=s3)

$(S3): requirements/s3.txt $(MADE_BY) | prerequisites
	@echo "environment: installing a local S3 server into $(GANREC_S3_VENV)"
	@scripts/make_venv.sh $(GANREC_S3_VENV) requirements/s3.txt $(PYTHON)
	@touch $@

kafka: $(KAFKA) ## a broker of Kafka, and what Spark reads it with, for the tests of streams (make test-cluster SELECT=kafka)

$(KAFKA): scripts/install_kafka.sh ganrec_spark/config/sections.py | env
	@echo "environment: getting a broker of Kafka and Spark's Kafka source into $(GANREC_KAFKA)"
	@scripts/install_kafka.sh $(GANREC_KAFKA) $(BIN)/python
	@touch $@

demo: env ## from raw ratings to published lists, on a generated world or on yours: DATA=ratings.csv ARGS="--set ..."
	@$(BIN)/ganrec demo $(if $(DATA),--data "$(DATA)") $(ARGS)

# Two workers, each of which takes a file as a whole; tests/conftest.py says in which order.
SIDE_BY_SIDE := -n 2 --dist loadfile --no-loadscope-reorder

test: lint airflow chromium ## lint, types, dependency direction, the tests of one machine (LONG=1: test-long with them)
	$(BIN)/python -m pytest -m "not cluster$(if $(LONG),, and not long)" $(SIDE_BY_SIDE)

test-long: env ## 25 minutes more: whole runs, many times: killed drivers, chaos, an old lake, benchmarks in miniature
	$(BIN)/python -m pytest -m long $(SIDE_BY_SIDE)

test-cluster: env airflow postgresql ## 50 minutes more: a Spark cluster of processes, PostgreSQL, a scheduling Airflow
	$(BIN)/python -m pytest -m cluster $(if $(SELECT),-k "$(SELECT)")

check: lint docs ## about a minute, no Spark: lint, types, dependency direction, the docs, unit tests
	$(BIN)/python -m pytest -m "unit or architecture"

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

postgresql:
	@scripts/install_postgresql.sh

chromium:
	@scripts/install_chromium.sh

PACKED := $(GANREC_VENV)-executor
package: env ## dist/ganrec_spark.zip for --py-files; PACK=1: dist/environment.tar.gz for --archives, too
	@$(if $(filter 1,$(PACK)),scripts/make_venv.sh $(PACKED) requirements/executor.txt $(PYTHON))
	@$(BIN)/python scripts/package.py $(if $(filter 1,$(PACK)),--environment $(PACKED))

WORKERS ?= 2
cluster-up: package ## start a Spark standalone cluster of processes on this machine (WORKERS=2)
	@$(BIN)/python scripts/cluster.py up --workers $(WORKERS)

cluster-down: ## stop it and remove what it wrote
	@$(BIN)/python scripts/cluster.py down

COMPILE := $(UV) pip compile --quiet --python-version 3.11 --generate-hashes --custom-compile-command "make lock" \
  $(if $(UPGRADE),--upgrade)

lock: env ## compile requirements/*.in into the locks again (UPGRADE=1: to the newest versions they allow)
	$(COMPILE) --no-deps requirements/bootstrap.in -o requirements/bootstrap.txt
	$(COMPILE) --override requirements/overrides.txt requirements/runtime.in -o requirements/runtime.txt
	$(COMPILE) --override requirements/overrides.txt --constraint requirements/runtime.txt requirements/dev.in \
	  -o requirements/dev.txt
	$(COMPILE) --constraint requirements/runtime.txt requirements/executor.in -o requirements/executor.txt
	$(COMPILE) --no-deps requirements/horovod.in -o requirements/horovod.txt
	$(COMPILE) requirements/airflow.in -o requirements/airflow.txt
	$(COMPILE) --constraint requirements/runtime.txt requirements/peers.in -o requirements/peers.txt
	$(COMPILE) requirements/docs.in -o requirements/docs.txt
	$(COMPILE) requirements/s3.in -o requirements/s3.txt

clean: ## remove environments and caches; keeps the lake and the cached wheel
	rm -rf $(GANREC_VENV) $(GANREC_AIRFLOW_VENV) $(GANREC_PEERS_VENV) $(GANREC_DOCS_VENV) $(GANREC_S3_VENV) $(PACKED) build dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
