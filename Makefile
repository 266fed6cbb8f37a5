# `make demo` shows what gliogate does, `make test` proves it. Both install what they need into .venv, once.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin

# The first Python here that will do; `make PYTHON=… demo` names another.
PYTHON ?= $(shell for python in python3 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$python && break; done)

# Most tests wait for a server most of the time, so there are more workers than cores; training keeps a core busy each.
PYTEST := $(BIN)/pytest --dist=loadfile
WORKERS ?= 3
TRAINING_WORKERS ?= 2
# What measures time or memory has the machine to itself. Its files are named, since collecting all takes seconds.
ALONE = $(shell grep -rl --include='test_*.py' 'mark\.alone' tests)

PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

.PHONY: help
help: ## List what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 17

.PHONY: demo
demo: $(VENV)/.serving ## Analyze synthetic scans with a real Triton; SCANS=path for your own
	@$(BIN)/gliogate demo $(if $(SCANS),"$(SCANS)")

.PHONY: check
check: $(VENV)/.developing ## Run the linters and the type checker
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

.PHONY: test
test: check ## Run them and the tests, all but those that take minutes
	$(PYTEST) --numprocesses=$(WORKERS) --ignore=tests/training -m "not slow and not alone"
	$(PYTEST) --numprocesses=$(TRAINING_WORKERS) tests/training -m "not slow"
	$(PYTEST) -m "alone and not slow" $(ALONE)

.PHONY: test-all
test-all: check ## Run them and every test
	$(PYTEST) --numprocesses=$(WORKERS) --ignore=tests/training -m "not alone"
	$(PYTEST) --numprocesses=$(TRAINING_WORKERS) tests/training
	$(PYTEST) -m alone $(ALONE)

.PHONY: bench
bench: $(VENV)/.developing ## Measure the served ensemble against its engines alone and against other servers
	@$(BIN)/python -m benchmarks $(BENCH)

.PHONY: loadtest
loadtest: $(VENV)/.developing ## Load a server of its own for two minutes, and report to build/loadtest
	$(BIN)/python -m loadtests tour --embedded

.PHONY: chaos
chaos: $(VENV)/.developing ## Let faults befall a server of its own for half an hour under load
	PYTHONPATH=tests $(BIN)/python -m chaos $(CHAOS)

# checkov holds back packages that the tests need in newer versions, so it gets an environment of its own.
.PHONY: chart-tools
chart-tools: build/chart-tools/.installed ## Install what else looks at the Helm chart in the tests, which skip it otherwise

build/chart-tools/.installed: Makefile
	@$(PYTHON) -m venv build/chart-tools
	@build/chart-tools/bin/python -m pip install --quiet --disable-pip-version-check checkov==3.3.30 yamllint==1.38.0
	@touch $@

.PHONY: gpu-check
gpu-check: $(VENV)/.developing ## Try on a GPU what only a GPU can show; IMAGE=name of the server's image
	@$(BIN)/python -m deploy.gpu_check $(if $(IMAGE),--image "$(IMAGE)")

.PHONY: dist
dist: DIST := dist
dist: $(VENV)/.building ## Build the wheel, models included, and the source distribution into dist/
	@$(BIN)/python -m build --no-isolation --outdir $(DIST)

.PHONY: clean
clean: ## Remove what the other targets made
	rm -rf $(VENV) build dist

# A stamp is written last: an installation that was interrupted is taken up again, one that was finished is not repeated.
$(VENV)/.serving: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "gliogate needs Python 3.11 or 3.12, and none is on PATH; name one with PYTHON=…" >&2; exit 1; }
	@echo "installing what serving needs into $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) '.[embedded]'
	@touch $@

$(VENV)/.building: $(VENV)/.serving
	@$(PIP_INSTALL) '.[build]'
	@touch $@

$(VENV)/.developing: $(VENV)/.serving
	@echo "installing the rest: training, load tests, tests …"
	@$(PIP_INSTALL) '.[embedded,loadtest,test,train]'
	@touch $@
