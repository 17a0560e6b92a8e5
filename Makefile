.DEFAULT_GOAL := help
.PHONY: help install demo demo-stop check test test-engines bench docs api-docs lint format lock clean

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
	.venv/bin/pytest -n $(JOBS) $(ARGS)

test-engines: install ## Run the Swarm tests on Docker 20.10, 26.1 and 28.5 (downloads the latter two)
	.venv/bin/pytest tests/swarm --churn 6
	.venv/bin/pytest tests/swarm/test_stalls.py --stall 40
	for suite in trixie sid; do \
	  .venv/bin/python -m tests.lab engine $$suite $(ENGINES)/$$suite; \
	  .venv/bin/pytest tests/swarm --churn 6 --engine $(ENGINES)/$$suite; \
	  .venv/bin/pytest tests/swarm/test_stalls.py --stall 40 --engine $(ENGINES)/$$suite; \
	done

bench: install ## Measure everything that docs/performance.md tells: takes half an hour
	.venv/bin/python -m tests.benchmarks.view
	.venv/bin/python -m tests.benchmarks.footprint
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
	.venv/bin/python -m tests.benchmarks.flood
	.venv/bin/python -m tests.benchmarks.upgrade

docs: install ## Make docs/cli.md and the man pages from the code
	.venv/bin/python -m tests.cli_pages

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

lock: ## Pin the newest packages that pyproject.toml allows (needs uv)
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --upgrade \
	  --generate-hashes --no-emit-index-url --no-header --quiet --output-file requirements.lock

clean: ## Remove what was made here
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
