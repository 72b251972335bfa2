# make repro   install into .venv and run the pipeline
# make test    install into .venv, lint and run the tests; make test-full also runs those that take long
# make chat    the recipe chatbot, with the adapter that make repro made; CHAT="--port 7861"; CHAT="--server URL": a server's model
# make export  the adapter merged, in export/: safetensors and GGUF, and scored; FORMATS="16bit q8_0"; docs/export.md
# make space   the chatbot as a folder that is a Hugging Face Space, of what make export made: docs/space.md
# make preset NAME=thorough   put a preset's values into params.yaml
# make remote URL=s3://bucket/path   where results are shared (or gs://, azure://, ssh://, a folder): docs/remotes.md
# make push, make pull   send what has run here to the remote; bring what has run elsewhere
# make harness TASKS="ifeval arc_easy"   standard benchmarks by lm-eval; HARNESS="--limit 200"
# make publish REPO=ORG/NAME   adapter and model card to the Hugging Face hub, and a version's tag; PUBLISH="--private"
# make status  what made the results here, what differs now, and what `dvc repro` would therefore run
# make restore outputs of this commit, from the remote or this machine's earlier runs: runs nothing
# make rescue  back to the branch after a killed `dvc exp run`
# make merge-lock   dvc.lock and results of two merged branches, in a conflict or after it
# make check   are all params in order? what dvc repro and dvc exp run do first, before they delete anything
# make clean-cache   what takes disk space, and what frees it; CLEAN="unused converted" removes that
# make audit   known vulnerabilities of the pinned packages
# make lock    pin every package, after a change to requirements*.txt; LOCK=--upgrade for newer versions of all
# make install-ray   Ray beside the rest, on each node of a cluster: standardize and mix there by SFT_RAY, docs/ray.md
# make install-trackers   TensorBoard, MLflow, W&B and DVCLive, for SFT_REPORT_TO: docs/watching.md
# make study   does more data help? sizes x replicates, and a report; STUDY="--sizes 100k 300k --devices 0,1"

# Extra arguments for pip; on a Linux machine without a GPU, to avoid torch's CUDA build:
#   make repro PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_ARGS ?=
# Python compiles a module when it is first imported: all 22,000 files of the packages would take pip half a minute.
PIP_INSTALL := .venv/bin/python -m pip install --no-compile
# Python 3.11 or 3.12.
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do $$p -c 'import sys; sys.exit(sys.version_info[:2] not in {(3, 11), (3, 12)})' 2>/dev/null && echo $$p && break; done)
REQUIREMENTS := $(shell nvidia-smi -L >/dev/null 2>&1 && echo requirements.txt || echo requirements-cpu.txt)
CONSTRAINTS := $(if $(filter requirements.txt,$(REQUIREMENTS)),constraints-gpu.txt,constraints.txt)
STAMP := .venv/installed-$(REQUIREMENTS)

# DVC runs the stages by `python`.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export TOKENIZERS_PARALLELISM := false

.PHONY: repro publish status restore rescue merge-lock check clean-cache audit test test-full lint lock preset remote push pull study harness chat space export browser install install-export install-harness install-ray install-trackers install-test

repro: install
	.venv/bin/dvc repro

# As many processes as tests/conftest.py says, of one thread each.
PYTEST := .venv/bin/pytest --numprocesses auto --dist worksteal
# Where there is a GPU, its tests come afterwards, one by one: some take all of its memory.
APART := $(if $(filter requirements.txt,$(REQUIREMENTS)),--ignore tests/test_gpu.py)

test: lint browser install-harness install-export install-test
	$(PYTEST) $(APART)
	$(if $(APART),.venv/bin/pytest tests/test_gpu.py)

# The marker given last counts: without one, nothing is left out.
test-full: lint browser install-harness install-export install-test
	$(PYTEST) -m "" $(APART)
	$(if $(APART),.venv/bin/pytest tests/test_gpu.py)

lint: install
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy sft stages app benchmarks scripts
	.venv/bin/lint-imports
	.venv/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

# Pins every package of the environment, for Python 3.11 and 3.12 on any system; versions that still fit are kept.
# Not after `install`, which what is pinned may keep from being done.
LOCK ?=
OTHERS := requirements-export.txt requirements-harness.txt requirements-ray.txt requirements-remotes.txt requirements-test.txt requirements-trackers.txt
UV := .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --custom-compile-command "make lock"
lock:
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet $(PIP_ARGS) "$$(grep ^uv== requirements-cpu.txt)"
	$(UV) $(LOCK) requirements-cpu.txt $(OTHERS) --output-file constraints.txt
	$(UV) $(LOCK) requirements.txt $(OTHERS) --output-file constraints-gpu.txt
	$(UV) $(LOCK) requirements-space.txt --output-file constraints-space.txt
	$(UV) $(LOCK) requirements-vllm.txt --output-file constraints-vllm.txt

CHAT ?=
chat: install
	.venv/bin/python -m app.chat $(CHAT)

SPACE ?=
space: install
	.venv/bin/python -m scripts.space $(SPACE)

# The chatbot's tests need a browser: Debian's, where this may install it; else they are skipped, and say so
# (or fail, where CI is set).
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	  || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
	       && { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } >/dev/null; } \
	  || echo "No Chromium here, and none could be installed: the tests of the chatbot's page are skipped, or fail where CI is set."

preset: install
	.venv/bin/python -m scripts.preset $(NAME)

URL ?=
remote: install
	@.venv/bin/python -m scripts.remote '$(URL)'

push pull: install
	@.venv/bin/python -m scripts.$@

REPO ?=
PUBLISH ?=
publish: install
	@.venv/bin/python -m scripts.publish '$(REPO)' $(PUBLISH)

# Safetensors need none of llama.cpp's tools, which not every machine has wheels for.
FORMATS ?=
export: $(if $(filter-out float32 16bit,$(or $(strip $(FORMATS)),all)),install-export,install)
	.venv/bin/python -m scripts.export --score --formats $(FORMATS)

STUDY ?=
study: install
	.venv/bin/python -m scripts.study $(STUDY)

check: install
	.venv/bin/python -m stages.check

CLEAN ?=
clean-cache: install
	.venv/bin/python -m scripts.clean_cache $(CLEAN)

audit: install
	.venv/bin/python -m scripts.audit

status restore rescue: install
	@.venv/bin/python -m scripts.$@

merge-lock: install
	@.venv/bin/python -m scripts.merge_lock

TASKS ?= ifeval arc_easy
HARNESS ?=
harness: install-harness
	.venv/bin/python -m scripts.harness --tasks $(TASKS) $(HARNESS)

install: $(STAMP)

$(STAMP): requirements.txt requirements-cpu.txt requirements-app.txt requirements-model.txt constraints.txt constraints-gpu.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or 3.12 found. Install one, or: make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP_INSTALL) $(PIP_ARGS) -r $(REQUIREMENTS) -c $(CONSTRAINTS)
	@touch $@

# lm-eval is no part of the pipeline, so `make repro` does without it.
HARNESS_STAMP := .venv/installed-harness
install-harness: install $(HARNESS_STAMP)

$(HARNESS_STAMP): requirements-harness.txt $(STAMP)
	$(PIP_INSTALL) $(PIP_ARGS) -r requirements-harness.txt -c $(CONSTRAINTS)
	@touch $@

# Nor is what `make export` makes GGUF files with. It is in a folder of its own, for it brings another `gguf` than the
# one that is pinned; what it needs beside that (torch, transformers) is in .venv already.
EXPORT_STAMP := .venv/installed-export
install-export: install $(EXPORT_STAMP)

$(EXPORT_STAMP): requirements-export.txt $(STAMP)
	rm -rf .venv/export-tools
	$(PIP_INSTALL) $(PIP_ARGS) --no-deps --target .venv/export-tools -r requirements-export.txt -c $(CONSTRAINTS)
	@touch $@

# Nor is Ray, which only a cluster needs.
RAY_STAMP := .venv/installed-ray
install-ray: install $(RAY_STAMP)

$(RAY_STAMP): requirements-ray.txt $(STAMP)
	$(PIP_INSTALL) $(PIP_ARGS) -r requirements-ray.txt -c $(CONSTRAINTS)
	@touch $@

# Nor is what shows a training while it runs.
TRACKERS_STAMP := .venv/installed-trackers
install-trackers: install $(TRACKERS_STAMP)

$(TRACKERS_STAMP): requirements-trackers.txt $(STAMP)
	$(PIP_INSTALL) $(PIP_ARGS) -r requirements-trackers.txt -c $(CONSTRAINTS)
	@touch $@

TEST_STAMP := .venv/installed-test
install-test: install $(TEST_STAMP)

TEST_REQUIREMENTS := requirements-test.txt requirements-ray.txt requirements-trackers.txt
$(TEST_STAMP): $(TEST_REQUIREMENTS) $(STAMP)
	$(PIP_INSTALL) $(PIP_ARGS) $(addprefix -r ,$(TEST_REQUIREMENTS)) -c $(CONSTRAINTS)
	@touch $@
