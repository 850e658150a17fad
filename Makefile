# Every task of the project; `make` alone lists them.
PYTHON ?= python3
BIN := .venv/bin
ROOMS := wire state relay
# Many tests wait for processes and clocks: more run at once than a small machine has cores.
JOBS ?= 6
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist worksteal
# Of a gateway that is compiled anew for each of some hundred processes the tests would take minutes longer.
unexport PYTHONDONTWRITEBYTECODE
COVERAGE = --cov --cov-report=

.DEFAULT_GOAL := help
.PHONY: help run test test-slow test-all test-faults mutants lint bench bench-peers format docs lock clean

help: ## list the tasks
	@awk -F ':.*## ' '/^[a-z.-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv: requirements/dev.txt pyproject.toml ## set up: a virtual environment with the locked packages and the antiphon command
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch .venv

run: .venv ## start the gateway on http://127.0.0.1:8000 (the demo model when no upstream key is set)
	$(BIN)/antiphon serve

test: .venv ## run the tests but the slow ones, on SQLite and PostgreSQL; ARGS="tests/relay -k pump" runs some
	$(PYTEST) $(or $(ARGS),--hypothesis-profile=quick -m "not slow and not faults")

test-slow: .venv ## run what `make test` leaves out: the slow tests, and three times the examples of each property
	$(PYTEST) -m "(slow or hypothesis) and not faults"

# Branch coverage costs half as much time again, and the quick tests hold its floors by themselves.
test-all: .venv ## run every test, and hold the floors of branch coverage
	@rm -f .coverage .coverage.*
	$(MAKE) test ARGS= PYTEST='$(PYTEST) $(COVERAGE)'
	@for room in $(ROOMS); do \
		$(BIN)/coverage report --include="app/$$room/*" --fail-under=95 --skip-covered || exit 1; done
	$(BIN)/coverage report --fail-under=90 --skip-covered --format=total
	$(MAKE) test-slow

test-faults: .venv ## attack a gateway, FAULTS_SECONDS with each attack, and print what it promises and keeps
	$(BIN)/python -m pytest -m faults $(or $(ARGS),tests/faults)

mutants: .venv ## take each rule out of a copy of the source and see its test fail; ARGS="secret" tries some
	$(BIN)/python -m tests.mutants $(ARGS)

lint: .venv ## ruff, mypy, the layers and the generated docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m app.settings.docs --check docs/settings.md

bench: .venv ## measure the gateway beside HAProxy and nginx, where they are installed; ARGS="JSON" measures some
	$(BIN)/python -m benchmarks $(ARGS)

bench-peers: .venv ## measure it beside LiteLLM and OGX, each installed into build/peers; ARGS as for bench
	$(BIN)/python -m benchmarks --peers $(ARGS)

format: .venv ## put the source in the one format
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

docs: .venv ## write the generated settings reference
	$(BIN)/python -m app.settings.docs docs/settings.md

COMPILE = $(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-header --no-annotate --no-strip-extras
# The lock of an extra holds what it adds to runtime.txt.
EXTRA = $(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["$(1)"])'

lock: .venv ## refresh the hash-pinned lock files from pyproject.toml
	$(COMPILE) pyproject.toml -o requirements/runtime.txt
	$(call EXTRA,redis) | $(COMPILE) - -c requirements/runtime.txt -o requirements/redis.txt
	$(COMPILE) pyproject.toml --extra redis --group dev -c requirements/runtime.txt -c requirements/redis.txt -o requirements/dev.txt

clean: ## remove what the tasks made; your data stays
	rm -rf .venv .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.* build dist *.egg-info
	find . -path ./data -prune -o -name __pycache__ -prune -exec rm -rf {} +
