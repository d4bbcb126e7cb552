# make run: the whole checklist on the default recipe; make test: the tests. Both set up what they need.
VENV ?= .venv
PYTHON ?= python3
RECIPE ?= recipes/digits.toml
WORKERS ?= 2
BIN = $(VENV)/bin
SETUP = $(VENV)/.tuner-$(shell (pwd; cat pyproject.toml constraints.txt) | cksum | cut -d' ' -f1)

.PHONY: help setup run test test-slow test-gpu check docs bench zoo zoo-judge

help:  ## show this page
	@grep -E '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo "  VENV=path uses another virtual environment, RECIPE=path another recipe."

setup: $(SETUP)  ## make the virtual environment with the pinned dependencies

$(SETUP):
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@rm -f $(VENV)/.tuner-*
	@touch $@

run: setup  ## carry out the whole checklist on RECIPE, then the test
	$(BIN)/tuner run $(RECIPE)
	$(BIN)/tuner test $(RECIPE)

test: setup  ## the tests (minutes)
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

test-slow: setup  ## the long tests too
	$(BIN)/python -m pytest -m 'slow or not slow' --timeout 3600 -n auto --maxprocesses 4 --dist loadfile

test-gpu: setup  ## what only a machine with a CUDA device shows
	$(BIN)/python -m pytest -m slow --timeout 600 tests/gpu

check: setup  ## ruff, formatting, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup  ## docs/codes.md, docs/checks/, docs/recipe-keys.md and docs/parts.md, made from the rules, the recipe's model and the parts
	$(BIN)/python -c 'from pathlib import Path; from tuner.recipe.model import Recipe; from tuner.stages import settings_models; \
	from tuner.view.reference import keys_page; Path("docs/recipe-keys.md").write_text(keys_page(Recipe, settings_models()))'
	$(BIN)/python -c 'from pathlib import Path; from tuner.checks.engine import all_rules; from tuner.stages.checklist import NAMES; from tuner.view.explain import codes_page; \
	Path("docs/codes.md").write_text(codes_page(all_rules().values(), NAMES))'
	$(BIN)/python -c 'from pathlib import Path; from tuner.checks.pages import check_pages; \
	[Path(f"docs/checks/{name}.md").write_text(text) for name, text in check_pages().items()]'
	$(BIN)/python docs/build_parts.py

bench: setup  ## timings of the command line and of the training loop
	$(BIN)/python -m benchmarks

zoo: setup  ## the planted bugs and the healthy look-alikes: what is found, what is falsely alarmed (goes on where it stopped)
	$(BIN)/python -m tests.zoo run --workers $(WORKERS) --out build/zoo

zoo-judge: setup  ## all rules again on the stored evidence of the zoo, in seconds: what is found, named, falsely alarmed
	$(BIN)/python -m tests.zoo judge
