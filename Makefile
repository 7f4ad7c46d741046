# Everything here works from a fresh clone with make and Python 3.11 or newer; `make help` lists the targets.
#
# VENV=…    where the virtual environment lives (default .venv)
# PYTHON=…  the interpreter that makes it (default: the newest Python >= 3.11 that works)
# ARGS=…    more arguments for pytest, the bench or the demo
# JOBS=…    how many tests run at once

VENV ?= .venv
ARGS ?=
# Many tests wait for servers, clocks and other processes: twice as many at once as there are CPUs keep these busy. Who has none left takes
# over from others, so that long ones do not queue behind each other in the end.
JOBS ?= $(shell expr 2 "*" $$(nproc))
BIN := $(VENV)/bin
PIP_FLAGS := -qq --disable-pip-version-check --no-input
LOCK := constraints.txt
LINTED := src tests bench scripts

.DEFAULT_GOAL := help
.PHONY: help bytecode demo test test-kubernetes soak check bench format manifests lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(BIN)/.installed-demo bytecode ## Show the main job on real pictures, in under a minute
	@$(BIN)/python scripts/demo.py $(ARGS)

test: $(BIN)/.installed-dev bytecode ## Run the whole test suite
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal $(ARGS)

test-kubernetes: $(BIN)/.installed-dev bytecode ## Install the chart into a real cluster and try it (KUBECONFIG, PADDOCK_TEST_IMAGE, PADDOCK_TEST_USER_IMAGE)
	@for name in KUBECONFIG PADDOCK_TEST_IMAGE PADDOCK_TEST_USER_IMAGE; do \
		printenv $$name > /dev/null || { echo "set $$name; see docs/how-to/kubernetes.md"; exit 2; }; done
	@$(BIN)/python -m pytest -v --timeout 1800 tests/kubernetes $(ARGS)

soak: $(BIN)/.installed-dev ## Run thousands of random lives of a home; prints the seed that fails (ARGS="--minutes 5")
	@$(BIN)/python scripts/soak.py $(ARGS)

check: $(BIN)/.installed-dev ## Lint, format check, types, layers
	@$(BIN)/ruff check $(LINTED)
	@$(BIN)/ruff format --check $(LINTED)
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(BIN)/.installed-demo bytecode ## Measure against peers and floors (ARGS="--quick" for a short run)
	@$(BIN)/python bench/run.py $(ARGS)

format: $(BIN)/.installed-dev ## Rewrite the code in the project's format
	@$(BIN)/ruff check --fix $(LINTED)
	@$(BIN)/ruff format $(LINTED)

manifests: $(BIN)/.installed-dev ## Write deploy/manifests anew from the Helm chart
	@$(BIN)/python scripts/render_manifests.py

lock: ## Renew constraints.txt from pyproject.toml (needs uv)
	uv pip compile --quiet --universal --upgrade --python-version 3.11 --extra demo --extra dev --no-header \
		--no-annotate --no-emit-index-url --no-emit-find-links pyproject.toml --output-file $(LOCK)

clean: ## Remove what the other targets made
	@rm -rf $(VENV) .venv-peers demo-output bench/results build dist .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Where the environment forbids Python to write bytecode, every command would compile the package anew.
bytecode: | $(BIN)/python
	@$(BIN)/python -m compileall -qq src

$(BIN)/python:
	@sh scripts/make_venv.sh $(VENV) $(PYTHON)

$(BIN)/.installed-demo: pyproject.toml $(LOCK) | $(BIN)/python
	@echo "installing paddock with the demo's packages into $(VENV)"
	@$(BIN)/python -m pip install $(PIP_FLAGS) --constraint $(LOCK) --editable '.[demo]'
	@touch $@

$(BIN)/.installed-dev: pyproject.toml $(LOCK) | $(BIN)/python
	@echo "installing paddock with the developers' packages into $(VENV)"
	@$(BIN)/python -m pip install $(PIP_FLAGS) --constraint $(LOCK) --editable '.[demo,dev]'
	@touch $@ $(BIN)/.installed-demo
