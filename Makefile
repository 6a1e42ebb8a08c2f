# Two commands do everything on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run test test-all lint format docs lowest clean

run: $(VENV)/.run  ## Search the AutoPatch space on the built-in demo
	$(BIN)/autosearch run searchspaces/autopatch.yaml --resume

test: $(VENV)/.dev  ## The quick tests, on two cores
	$(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 0

test-all: $(VENV)/.dev  ## The slow ones too, at full length
	AUTOSEARCH_TEST_FULL=1 $(BIN)/python -m pytest -m ""

lint: $(VENV)/.dev  ## What the gate checks besides tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs  ## The pages of docs/ as a site in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lowest:  ## Every command once, with the lowest versions that pyproject.toml allows
	scripts/lowest.sh

clean:
	rm -rf $(VENV) build dist site *.egg-info

$(VENV)/.run: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --editable ".[cpu,export]"
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --editable ".[cpu,export,dev]"
	touch $@

$(VENV)/.docs: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --editable ".[cpu,export,docs]"
	touch $@
