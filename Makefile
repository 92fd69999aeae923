# The front door. Every target sets up what it needs on a fresh Debian machine with Python 3.11 and make.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Where the environment forbids Python to keep its bytecode (many images do), each of hundreds of starts compiles
# 450 modules anew: a second of three.
export PYTHONDONTWRITEBYTECODE :=

BIN := .venv/bin
DEMO_DIR ?= .demo
TESTS ?= tests
WORKERS ?= 2

.PHONY: help demo fleet screenshots agent test faults fuzz lint bench bench-report format requirements peers clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: .venv/server.done  ## play one certificate's whole life (ONCE=1 plays it and ends)
	@scripts/install-peers nginx-light || echo "continuing without NGINX: a small TLS endpoint of ours takes its place"
	$(BIN)/certctl demo --data-dir $(DEMO_DIR) $(if $(ONCE),--once)

fleet: .venv/server.done  ## fill a fleet of samples and show its dashboard (ONCE=1 fills and ends, CERTIFICATES=3000)
	$(BIN)/certctl demo --fleet --data-dir $(DEMO_DIR)/fleet $(if $(CERTIFICATES),--certificates $(CERTIFICATES)) $(if $(ONCE),--once)

screenshots: .venv/dev.done  ## every page over a fleet of samples into build/screenshots (DOCS=1: the eight of docs/screenshots, wants Pillow)
	$(BIN)/python scripts/screenshots $(if $(DOCS),--docs)

agent: .venv/bin/python  ## build certctl-agent as one file into dist/ (AGENT=--all: every machine and Python)
	$(BIN)/python scripts/build-agent $(AGENT)

test: .venv/dev.done peers  ## set up what the tests need, then run them all
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(TESTS)

faults: .venv/dev.done peers  ## kill everything at every point, write docs/reference/faults.md (FAULTS=--help)
	$(BIN)/python tests/faults/matrix.py $(FAULTS)

fuzz: .venv/dev.done peers  ## play the API by its document, long and differently each time (EXAMPLES=50)
	CERTCTL_FUZZ_EXAMPLES=$(or $(EXAMPLES),50) $(BIN)/python -m pytest -n 2 -o timeout=3600 tests/integration/test_document_fuzz.py

lint: .venv/dev.done  ## ruff, mypy, import contracts, generated documents, every guard of scripts/ci-guards
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/generate-docs --check
	for guard in scripts/ci-guards/*; do "$$guard"; done

bench: .venv/dev.done peers  ## measure; prints JSON and keeps it under bench/results
	$(BIN)/python bench/run.py $(BENCH)

bench-report: .venv/bin/python  ## draw docs/operator/scale.md and its charts from bench/results
	$(BIN)/python bench/report.py

format: .venv/dev.done  ## let ruff format the tree
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

requirements:  ## compile the pinned requirements anew (needs uv)
	scripts/compile-requirements

peers:
	@scripts/install-peers nginx-light apache2 haproxy postfix dovecot-imapd caddy postgresql openssl curl rsyslog prometheus prometheus-alertmanager iproute2 strace gcc libc6-dev systemd shellcheck dehydrated uacme lego bind9 pdns-server pdns-backend-sqlite3 chromium fonts-dejavu-core
	@scripts/build-go-peers

.venv/bin/python:
	@PYTHON="$(PYTHON)" scripts/make-venv .venv

.venv/server.done: .venv/bin/python requirements/server.txt requirements/build.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/server.txt -r requirements/build.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.done: .venv/bin/python requirements/dev.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@ .venv/server.done

clean:  ## remove what the targets made
	rm -rf .venv $(DEMO_DIR) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
