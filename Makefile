# make repro   install into .venv and run the pipeline
# make test    install into .venv, lint and run the tests
# make preset NAME=thorough   put a preset's values into params.yaml
# make study   does more data help? sizes x replicates, and a report; STUDY="--sizes 100k 300k --replicates 3"

# Extra arguments for pip; on a Linux machine without a GPU, to avoid torch's CUDA build:
#   make repro PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_ARGS ?=
# Python 3.11 or 3.12.
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do $$p -c 'import sys; sys.exit(sys.version_info[:2] not in {(3, 11), (3, 12)})' 2>/dev/null && echo $$p && break; done)
REQUIREMENTS := $(shell nvidia-smi -L >/dev/null 2>&1 && echo requirements.txt || echo requirements-cpu.txt)
STAMP := .venv/installed-$(REQUIREMENTS)

# DVC runs the stages by `python`.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export TOKENIZERS_PARALLELISM := false

.PHONY: repro test lint preset study install

repro: install
	.venv/bin/dvc repro

test: lint
	.venv/bin/pytest

lint: install
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy sft stages benchmarks scripts

preset: install
	.venv/bin/python -m sft.preset $(NAME)

STUDY ?=
study: install
	.venv/bin/python -m scripts.study $(STUDY)

install: $(STAMP)

$(STAMP): requirements.txt requirements-cpu.txt requirements-model.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or 3.12 found. Install one, or: make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install $(PIP_ARGS) -r $(REQUIREMENTS)
	@touch $@
