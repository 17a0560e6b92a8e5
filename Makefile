.DEFAULT_GOAL := help
.PHONY: help install demo demo-stop check test test-again test-stack test-packages test-engines bench docs api-docs site lint format lock vendor images single-file packages clean screenshots dashboard

# Where the root folders of other engines are made, once: half a gigabyte each.
ENGINES ?= /var/tmp/vxlan-operator-engines

# How many tests run at the same time: more than there are cores, as most of them wait. 0: one after another
# in pytest's own process, which is quicker for a few.
JOBS ?= $(if $(ARGS),0,6)

# Python keeps what it compiled: the tests start hundreds of processes, and each would compile it again.
unexport PYTHONDONTWRITEBYTECODE

# Each recipe is its own shell; a failing command in a pipe fails it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

help: ## Show what there is to make
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: ## Install what is missing: Debian packages (as root), .venv with pinned packages
	@scripts/install

demo: install ## Heal a leak of Docker's on a real three-node Swarm (KEEP=1: leave it running)
	@.venv/bin/python -m tests.demo $(if $(KEEP),--keep)

demo-stop: ## End and remove what `make demo KEEP=1` left running
	@.venv/bin/python -m tests.demo --stop

check: lint ## Lint, types, import contracts and unit tests: in a minute, after each change
	.venv/bin/pytest tests/unit

test: install ## Run all tests (ARGS='-k word' for some of them, JOBS=4 for so many at a time)
	.venv/bin/pytest -n $(JOBS) -m "not stack" $(ARGS)

test-again: ## Run the tests that failed last once more, alone, as CI does if they are at most 5
	@[ "$$(cat .pytest_cache/v/vxlan-operator/status 2>/dev/null)" = 1 ] || \
	  { echo "test-again: the last tests did not all run, or none failed: run them all" >&2; exit 1; }; \
	failed=$$(.venv/bin/pytest --last-failed --last-failed-no-failures none --collect-only -q | grep -c '^tests/.*::' || true); \
	[ "$$failed" -le 5 ] || { echo "test-again: $$failed tests failed: that is no matter of load" >&2; exit 1; }; \
	echo "test-again: $$failed tests failed, and are run alone; one that passes now is UNSTEADY: mend it"; \
	.venv/bin/pytest --last-failed --last-failed-no-failures none -n 0 --verbose

test-stack: install ## Test the images, and the stack installed, upgraded, hurt and removed (downloads a Debian base once)
	.venv/bin/pytest -n $(if $(ARGS),0,2) -m stack $(ARGS)

test-engines: install ## Run the Swarm tests on Docker 20.10, 26.1 and 28.5, others on HAProxy 3 and Valkey (downloads them)
	.venv/bin/pytest tests/swarm --churn 6
	.venv/bin/pytest tests/swarm/test_stalls.py --stall 40
	for suite in trixie sid; do \
	  .venv/bin/python -m tests.lab engine $$suite $(ENGINES)/$$suite; \
	  .venv/bin/pytest tests/swarm --churn 6 --engine $(ENGINES)/$$suite; \
	  .venv/bin/pytest tests/integration/test_socket_proxy.py --engine $(ENGINES)/$$suite; \
	  .venv/bin/pytest tests/integration/test_broker_{servers,faults,acl}.py --valkey $(ENGINES)/$$suite; \
	  .venv/bin/pytest tests/swarm/test_stalls.py --stall 40 --engine $(ENGINES)/$$suite; \
	done
	.venv/bin/pytest tests/installed -n 0 --engine $(ENGINES)/sid

bench: install ## Measure everything that docs/performance.md tells: takes half an hour
	.venv/bin/python -m tests.benchmarks.view
	.venv/bin/python -m tests.benchmarks.footprint
	.venv/bin/python -m tests.benchmarks.idle
	.venv/bin/python -m tests.benchmarks.soak
	.venv/bin/python -m tests.benchmarks.signing
	.venv/bin/python -m tests.benchmarks.latency
	.venv/bin/python -m tests.benchmarks.throughput
	.venv/bin/python -m tests.benchmarks.throughput --sqlite
	.venv/bin/python -m tests.benchmarks.reading
	.venv/bin/python -m tests.benchmarks.status
	.venv/bin/python -m tests.benchmarks.desired
	.venv/bin/python -m tests.benchmarks.memory
	.venv/bin/python -m tests.benchmarks.trail_pages
	.venv/bin/python -m tests.benchmarks.trail_intake
	.venv/bin/python -m tests.benchmarks.cli
	.venv/bin/python -m tests.benchmarks.explain
	.venv/bin/python -m tests.benchmarks.watch
	.venv/bin/python -m tests.benchmarks.dashboard
	.venv/bin/python -m tests.benchmarks.flood
	.venv/bin/python -m tests.benchmarks.failover
	.venv/bin/python -m tests.benchmarks.upgrade

docs: install ## Make docs/cli.md, docs/explain.md and the man pages from the code
	.venv/bin/python -m tests.cli_pages
	.venv/bin/python -m tests.explain_page

site: install ## Build the documents as a website in build/site; a warning is an error
	rm -rf build/site
	.venv/bin/python -m sphinx -q -E -W --keep-going -b html -d build/site-doctrees docs build/site
	@echo 'site: build/site/index.html'

lint: install ## Lint, types, import contracts
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

format: install ## Format the code
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

api-docs: install ## Write docs/openapi.json, docs/problems.md and the routes of docs/security.md
	.venv/bin/python -m tests.api_docs

dashboard: install ## Write Grafana's dashboard, packaging/grafana/vxlan-operator.json
	@.venv/bin/python packaging/grafana/generate.py

lock: ## Pin the newest packages that pyproject.toml allows (needs uv)
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --upgrade \
	  --generate-hashes --no-emit-index-url --no-header --quiet --output-file requirements.lock
	uv pip compile packaging/sbom.in --universal --python-version 3.11 --upgrade \
	  --generate-hashes --no-emit-index-url --no-header --quiet --output-file packaging/sbom.lock

screenshots: install ## Take pictures of all pages of the dashboard into build/screenshots and docs/images
	.venv/bin/python -m tests.browser.screenshots $(ARGS)

vendor: ## Fetch the dashboard's libraries again, as vendor.toml pins them (needs npm)
	@scripts/vendor

single-file: install ## Build vxlan-worker as one file with `scan` alone, for a broken node with nothing installed
	@scripts/packages single-file

packages: install ## Build .deb and .rpm of worker and controller, with a Python of their own
	@scripts/packages packages

test-packages: single-file packages ## Install, run, upgrade and remove them in clean root folders (debootstrap)
	PACKAGES=dist .venv/bin/pytest tests/packages

images: ## Build the images (BASE=python:3.13-slim, TAG=its version), with the Docker of DOCKER_HOST
	@scripts/install --venv
	@scripts/images

clean: ## Remove what was made here
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
