# SPDX-License-Identifier: Apache-2.0
# `make run` and `make test` are all a newcomer needs. `make help` lists the rest.

VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# The tests start hundreds of processes: each would compile every module anew, for half a second.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run test test-processes test-parts test-types check lint soak bench lock wheels build changelog docs clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(RUN_STAMP) ## install into .venv and run the relay at 127.0.0.1:3247
	@exec $(BIN)/fairlead serve

test: lint ## install what the tests need and run all of them (15 minutes at most)
	@scripts/system-packages
	@scripts/npm-packages
	@$(MAKE) --no-print-directory --keep-going --jobs 3 test-processes test-parts test-types

test-processes: $(DEV_STAMP)  # half of the time goes here, most of it in waiting
	$(BIN)/python -m pytest -o console_output_style=classic tests/acceptance

test-parts: $(DEV_STAMP)
	$(BIN)/python -m pytest -o console_output_style=classic tests --ignore tests/acceptance

test-types: $(DEV_STAMP)  # `lint` has checked those of the oldest
	@for version in 3.12 3.13 3.14; do $(BIN)/mypy --python-version $$version src || exit 1; done

check: lint ## lint, types, import rules, unit tests: seconds (properties with a tenth of their examples)
	QUICK=1 $(BIN)/python -m pytest -q -p no:schemathesis tests/unit

lint: $(DEV_STAMP)
	$(BIN)/ruff check src tests benchmarks scripts
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

soak: $(DEV_STAMP) ## the long tests: 1,000 kills, more seeds
	@scripts/system-packages
	SOAK=1 $(BIN)/python -m pytest tests -m soak --timeout 14400

bench: $(DEV_STAMP) ## measure every row of the speed table; writes benchmarks/out
	@scripts/system-packages
	$(BIN)/python -m benchmarks

lock: ## pin every dependency again, with hashes and without host names
	@scripts/lock

wheels: $(DEV_STAMP) ## check that every locked dependency has a wheel for each Python and platform
	$(BIN)/python scripts/check_wheels.py

build: $(DEV_STAMP) ## the wheel and the source archive, in dist/
	$(BIN)/python -m build --no-isolation

changelog: $(DEV_STAMP) ## gather the fragments of changelog.d into CHANGELOG.md
	$(BIN)/towncrier build --yes --version "$$($(BIN)/fairlead --version | cut -d ' ' -f 3)"

docs: $(DEV_STAMP) ## write the generated reference pages anew
	$(BIN)/python scripts/write_reference.py

clean: ## remove what was installed and built
	rm -rf $(VENV) dist build

$(RUN_STAMP): requirements.txt requirements-build.txt pyproject.toml
	@scripts/install $(VENV) requirements.txt requirements-build.txt
	@touch $@

$(DEV_STAMP): requirements-dev.txt pyproject.toml
	@scripts/install $(VENV) requirements-dev.txt
	@touch $@
