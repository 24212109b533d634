PYTHON ?= python3
BIN := .venv/bin
LOWEST := .venv-lowest/bin
# Tests that start many processes or train multiple networks; excluded from the fast tests.
SLOW := bad_input benchmark_scripts compare ddp interruption notebooks study sweeps tune

.PHONY: help install train study study-segmentation test test-web test-lowest lint board notebooks docs verify-weights clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 24

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "srcolor needs Python 3.11 or newer: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -e . -c constraints.txt
	touch $@

.venv/ready-dev: .venv/ready
	$(BIN)/pip install -e '.[dev]' -c constraints.txt
	touch $@

install: .venv/ready ## create .venv and install srcolor in it

train: .venv/ready ## train and test the default network: about four minutes
	$(BIN)/python train.py experiment=sr64to128

study: .venv/ready ## train and compare every route of the chain study: DATA=~/faces (default: photos) SEEDS=0,1,2
	$(BIN)/python study.py --data "$(or $(DATA),photos)" --seeds $(or $(SEEDS),0)

study-segmentation: .venv/ready ## the same for segmentation: DATA=<folder of images and masks> (default: blobs) SEEDS=0,1,2
	$(BIN)/python study.py --task segmentation --data "$(or $(DATA),blobs)" --seeds $(or $(SEEDS),0)

lint: .venv/ready-dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint ## lint, type check and tests
	$(BIN)/pytest -n auto

.venv/ready-browser: .venv/ready
	$(BIN)/pip install -e '.[browser]' -c constraints.txt
	touch $@

test-web: .venv/ready-browser ## test srcolor-web in Chromium; SCREENSHOTS=docs also writes the pictures of its page
	SCREENSHOTS="$(SCREENSHOTS)" $(BIN)/pytest -m browser tests/browser

# The lowest version that pyproject.toml allows of every package that it names.
.venv-lowest/ready: pyproject.toml
	test -x $(LOWEST)/python || $(PYTHON) -m venv .venv-lowest
	$(LOWEST)/pip install packaging
	$(LOWEST)/python .ci/lowest.py > .venv-lowest/constraints.txt
	$(LOWEST)/pip install -e '.[test,celeba,cluster]' -c .venv-lowest/constraints.txt
	touch $@

test-lowest: .venv-lowest/ready ## fast tests with the lowest versions that pyproject.toml allows
	$(LOWEST)/pytest -n auto $(SLOW:%=--ignore-glob='*/test_%.py')

board: .venv/ready ## TensorBoard on all runs
	$(BIN)/tensorboard --logdir runs

notebooks: .venv/ready-dev ## run the notebooks on the latest run, comparisons and sweep: HTML in runs/notebooks
	$(BIN)/jupyter nbconvert --to html --execute --allow-errors --output-dir runs/notebooks notebooks/*.ipynb

.venv/ready-docs: .venv/ready
	$(BIN)/pip install -e '.[docs]' -c constraints.txt
	touch $@

docs: .venv/ready-docs ## build the documentation in docs/_build
	$(BIN)/sphinx-build -W --keep-going docs docs/_build

verify-weights: .venv/ready ## reproduce every value on the model cards: DATA=<folder with benchmark/ and faces/>
	$(BIN)/python benchmarks/verify_weights.py "$(DATA)"

clean: ## remove the environments and tool caches; runs stay
	rm -rf .venv .venv-lowest docs/_build .pytest_cache .mypy_cache .ruff_cache *.egg-info
