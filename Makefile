# What can be done here: `make help`. Everything works in a fresh clone.
# -p: no functions, options, CDPATH or BASH_ENV of the caller
SHELL := bash
.SHELLFLAGS := -p -euo pipefail -c
unexport ENV GREP_OPTIONS POSIXLY_CORRECT $(filter PYTHON%,$(.VARIABLES))
.DEFAULT_GOAL := help
.PHONY: help up down status restart logs load demo simulate parked bench clean test test-fast properties faults fuzz screenshots preview audit lint lock docs release

# numpy's OpenBLAS would start a thread for each processor; no linear algebra is done here
override PYTHON := PYTHONUTF8=1 OPENBLAS_NUM_THREADS=1 .venv/bin/python
ARGS ?=
SPREAD := --dist loadscope --no-loadscope-reorder# as tests/workers.py groups and orders them

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: ## start everything; comes back when all is healthy (MODE=docker|local forces how)
	@deploy/run up

down: ## stop what `make up` started; the data stay
	@deploy/run down

status: ## what runs, jobs, drains, alerts, settings, and how to log in; not 0 if something is down or a critical alert fires
	@deploy/run status

restart: ## stop and start one or several again: SERVICE=dispatcher
	@deploy/run restart

logs: ## follow what everything writes; e.g. SERVICE="api dispatcher" LEVEL=warning; FOLLOW=0: the last lines alone
	@deploy/run logs

load: ## send charge requests: 100, 2 a second; e.g. ARGS="--requests 1000 --rate 50"
	@deploy/run load $(ARGS)

demo: ## a rush hour in which one substation dies and one is drained; docs/tour.md; ARGS="--speed 2"
	@deploy/run demo $(ARGS)

simulate: ## the policies compared in virtual time; e.g. ARGS="--connectors 3x10 --session 2-5"
	@deploy/local/bootstrap
	@$(PYTHON) -m load_test simulate $(ARGS)

parked: ## what could not be processed: ARGS="list" (without any), "show ID", "replay ID", "discard ID --yes"
	@deploy/run parked $(or $(ARGS),list)

bench: ## what a request costs, beside others; writes docs/performance.md; QUICK=1; ARGS="relay chain"
	@deploy/local/bootstrap rabbitmq-server
	@$(PYTHON) -m bench $(ARGS)

clean: ## stop all and remove data, passwords and .venv; asks if there are requests, unless YES=1
	@deploy/run clean

test: ## every test, against RabbitMQ nodes of their own; e.g. ARGS="-k policy"
	@deploy/local/bootstrap rabbitmq-server prometheus faketime chromium-headless-shell
	@$(PYTHON) -m pytest $(SPREAD) --numprocesses $$((3 * $$(nproc))) --maxprocesses 8 $(ARGS)

test-fast: ## every test that needs neither RabbitMQ nor Prometheus and installs no packages, in a minute or so
	@deploy/local/bootstrap
	@EXAMPLES=few $(PYTHON) -m pytest $(SPREAD) --numprocesses $$((2 * $$(nproc))) --maxprocesses 8 \
	  -m 'not integration and not e2e and not installs' $(ARGS)

properties: ## the property tests, 12,000 examples of each, half an hour or more; e.g. EXAMPLES=100000 ARGS="-k wire"
	@deploy/local/bootstrap
	@EXAMPLES=$(or $(EXAMPLES),12000) $(PYTHON) -m pytest $(SPREAD) --numprocesses $$(nproc) --timeout 0 \
	  -m 'hypothesis and not integration and not e2e' $(ARGS)

faults: ## the long form of the fault tests, half an hour; writes the table of docs/reliability.md
	@deploy/local/bootstrap rabbitmq-server prometheus faketime
	@FAULTS=long $(PYTHON) -m pytest -s tests/faults $(ARGS)

fuzz: ## a million inputs to everything that reads bytes; e.g. ARGS="pages --inputs 50000"
	@deploy/local/bootstrap
	@$(PYTHON) -m fuzz $(ARGS)

screenshots: ## pictures of the page into docs/pictures; e.g. ARGS="page-dark"
	@deploy/local/bootstrap chromium-headless-shell
	@$(PYTHON) -m tests.page.screenshots $(ARGS)

preview: ## pictures of the dashboards by the data of a running Prometheus, without Grafana; e.g. ARGS="docs/pictures"
	@deploy/local/bootstrap chromium-headless-shell
	@$(PYTHON) -m tests.deploy.preview $(or $(ARGS),.run/preview)

audit: ## is anything in the lock files known to be vulnerable? 1: yes, 2: nobody could say
	@deploy/local/bootstrap
	@$(PYTHON) -m deploy.audit

lint: ## style, types, and who may import whom
	@deploy/local/bootstrap
	@$(PYTHON) -m ruff check
	@$(PYTHON) -m ruff format --check
	@$(PYTHON) -m mypy
	@$(PYTHON) -m tests.language
	@$(PYTHON) -c 'from importlinter.cli import lint_imports_command as lint; lint()'

docs: ## the documentation at http://localhost:8000, without the internet; ARGS=build: into site/
	@deploy/local/bootstrap
	@NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs $(or $(ARGS),serve) --strict

release: ## the archives of what is committed into dist/, and the labelled image where Docker answers
	@deploy/python -m deploy.release

lock: ## bring the lock files in line with pyproject.toml; newest versions: ARGS=--upgrade
	@deploy/local/bootstrap
	@for name in requirements requirements-otel requirements-dev; do \
	  more=; [ $$name = requirements ] || more='--extra otel'; \
	  [ $$name != requirements-dev ] || more+=' --group dev --group local --group plot --group hindsight --group bench --group docs'; \
	  $(PYTHON) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-header --no-annotate $(ARGS) pyproject.toml $$more -o $$name.lock; \
	done
