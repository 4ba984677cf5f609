# Thin targets: each line is one that a person could type. Python: `make PYTHON=/path/to/python3.12 run` to choose one.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CLIENTS := tests/.clients
BUILT_FROM := pyproject.toml setup.py $(wildcard lunaroute/_fast/*.pyx lunaroute/_fast/*.pxd)

.PHONY: run test check bench system clients clean

run: $(BIN)/.run
	@echo 'In the shell where you work:  eval "$$($(CURDIR)/$(BIN)/lunaroute env)"  and then claude, codex or any SDK as usual.'
	@exec $(BIN)/lunaroute serve

test: $(BIN)/.test system clients
	$(BIN)/python -m pytest --no-skips

check: $(BIN)/.check system
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m benchmarks.instructions

bench: $(BIN)/.test
	$(BIN)/python -m benchmarks

# What the tests drive and pip cannot bring: shells and a browser (tests/system.sh says or installs what is missing).
system:
	@sh tests/system.sh

# The assistants, pinned. Their packages' scripts are not run: the tests call the programs inside directly.
clients: $(CLIENTS)/.installed

$(CLIENTS)/.installed: tests/e2e/clients/package.json | system
	rm -rf $(CLIENTS)
	mkdir -p $(CLIENTS)
	cp tests/e2e/clients/package.json $(CLIENTS)/
	cd $(CLIENTS) && npm install --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error
	touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "LunaRoute needs Python 3.11 or newer. Name one: make PYTHON=/path/to/python3.12")'
	@command -v cc >/dev/null || { echo 'A C compiler is needed: apt install gcc python3-dev (Debian), xcode-select --install (macOS)' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(BIN)/.run: $(BUILT_FROM) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(BIN)/.test: $(BUILT_FROM) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@ $(BIN)/.run

$(BIN)/.check: $(BUILT_FROM) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,check]'
	touch $@ $(BIN)/.run $(BIN)/.test

clean:
	rm -rf $(VENV) $(CLIENTS) build *.egg-info lunaroute/_fast/*.c lunaroute/_fast/*.so
