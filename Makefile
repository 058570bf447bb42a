# Two commands for a fresh machine: `make run` and `make test`.

PYTHON ?= python3
VENV ?= .venv
# The oldest gptme that is supported, in an environment of its own.
OLDEST_GPTME := 0.34.0
OLDEST_VENV := $(VENV)-gptme-$(OLDEST_GPTME)

BIN := $(VENV)/bin
# Tools only: the page's half has no build step and no packages.
NODE_MODULES := node_modules/.installed
PIP_FLAGS := --quiet --disable-pip-version-check
# What needs no quiet machine runs side by side: much of it waits. Sound is made in real time, so
# tests in browsers run alone, afterwards.
TOGETHER := -n 4 --dist worksteal
# What can differ from one gptme to another; the rest knows nothing of gptme.
GPTME_TESTS := tests/contract/test_gptme.py tests/contract/test_wheel.py \
	tests/server/test_smoke.py tests/server/test_access.py tests/server/test_config_errors.py \
	tests/server/test_lifecycle.py tests/server/test_assets.py tests/server/test_settings.py \
	tests/server/test_spoken.py tests/server/test_turns.py tests/server/test_spool.py \
	tests/server/test_heard.py \
	tests/server/test_endings.py tests/server/test_briefing.py tests/server/test_metrics.py \
	tests/server/test_conversation.py tests/server/test_conversation_life.py tests/test_cli.py
GPTME_PAGES := tests/browser/test_voice_button.py tests/browser/test_voice_conversation.py

.PHONY: help run test check oldest soak bench clean

help:
	@echo "make run     install into $(VENV) and serve gptme with voice; prints the address to open"
	@echo "make test    everything: style, types, all tests, also with gptme $(OLDEST_GPTME)"
	@echo "make check   style and types only, of Python and JavaScript"
	@echo "make soak    longer and further variants of the tests"
	@echo "make bench   print the figures and bars"
	@echo "make clean   remove what the above have made"

run: $(VENV)/.run
	$(BIN)/gptme-voice serve

test: check $(VENV)/.test system-packages
	npm run --silent test
	$(BIN)/python -m pytest $(TOGETHER) --ignore=tests/browser
	$(BIN)/python -m pytest tests/browser
	$(MAKE) oldest

check: $(VENV)/.test $(NODE_MODULES)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	npm run --silent check
	npm run --silent lint

oldest: $(OLDEST_VENV)/.test system-packages
	$(OLDEST_VENV)/bin/python -m pytest -m "not any_gptme and not soak" $(TOGETHER) $(GPTME_TESTS)
	$(OLDEST_VENV)/bin/python -m pytest -m "not any_gptme and not soak" $(GPTME_PAGES)

soak: $(VENV)/.test system-packages
	$(BIN)/python -m pytest -m soak
	$(BIN)/python -m pytest -m hypothesis --hypothesis-profile=other

bench: $(VENV)/.test
	$(BIN)/python -m tests.bench.bench_resample
	$(BIN)/python -m tests.bench.bench_latency
	$(BIN)/python -m tests.bench.bench_local

.PHONY: system-packages
system-packages:
	scripts/install-test-system-packages

clean:
	rm -rf $(VENV) $(OLDEST_VENV) node_modules build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python $(OLDEST_VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 15))' || \
		{ echo "Python 3.10 to 3.14 is needed; set it with: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(@D)/..
	$(@D)/python -m pip install $(PIP_FLAGS) --upgrade pip

$(VENV)/.run: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install $(PIP_FLAGS) --editable '.[local,local-models]'
	touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install $(PIP_FLAGS) --editable '.[test]'
	touch $@ $(VENV)/.run

$(OLDEST_VENV)/.test: pyproject.toml | $(OLDEST_VENV)/bin/python
	$(OLDEST_VENV)/bin/python -m pip install $(PIP_FLAGS) --editable '.[test]' 'gptme[server]==$(OLDEST_GPTME)'
	touch $@

$(NODE_MODULES): package.json package-lock.json .npmrc
	scripts/install-test-system-packages node
	npm ci --loglevel=error
	touch $@
