# Each target sets itself up: the first one called creates .venv and installs the pinned dependencies.
# Arguments pass through:  make sweep ARGS="lora.r=4,64"   make finetuned RUN=multirun/mine/lora.r=8

PYTHON ?= python3
VENV   := .venv
RUN_PY := $(VENV)/bin/python
# Python compiles a module as it is first imported; compiling all of them, used or not, would double the time.
PIP    := $(RUN_PY) -m pip install --no-compile --quiet --disable-pip-version-check -c constraints.txt
STAMP  := $(VENV)/.installed
DEMO   := $(VENV)/.demo
ARGS   ?=
RUN    ?= latest
# A question reaches the shell through the environment, where no sign in it means anything.
override Q := $(value Q)
export Q

.DEFAULT_GOAL := help
.PHONY: help sweep train predict demo pretrain baseline finetuned compare notebook test test-slow lint bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "medsql needs Python 3.11 or newer, $(PYTHON) is older: make PYTHON=python3.12"; exit 1; }
	@echo "installing into $(VENV): some minutes, 2 GB with the CPU build of PyTorch, several more with CUDA's"
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[dev]'
	@touch $@

$(DEMO): $(STAMP)
	@echo "installing Gradio into $(VENV)"
	$(PIP) -e '.[demo]'
	@touch $@

sweep: $(STAMP) ## three LoRA ranks on the bundled model and data
	$(RUN_PY) -m medsql.train -m $(if $(findstring lora.r=,$(ARGS)),,lora.r=8,16,32) $(ARGS)

train: $(STAMP) ## one run
	$(RUN_PY) -m medsql.train $(ARGS)

predict: $(STAMP) ## SQL for Q="a question", or for the lines of standard input; RUN=folder
	@$(RUN_PY) -m medsql.predict $(if $(filter latest,$(RUN)),,run='"$(RUN)"') $(ARGS) $(if $(value Q),question="$$Q")

demo: $(DEMO) ## a local page: ask models side by side, browse errors and sweeps; RUN=folder
	@$(RUN_PY) -m medsql.demo $(if $(filter latest,$(RUN)),,run='"$(RUN)"') $(ARGS)

pretrain: $(STAMP) ## a small base model on invented databases, 40 minutes with ARGS="trainer.precision=bfloat16" on two cores that have it
	$(RUN_PY) -m medsql.pretrain $(ARGS)

baseline: $(STAMP) ## score the model as it is, zero-shot
	$(RUN_PY) -m medsql.evaluate $(ARGS)

finetuned: $(STAMP) ## score the newest finished run, or RUN=folder
	$(RUN_PY) -m medsql.evaluate run='"$(RUN)"' $(ARGS)

compare: $(STAMP) ## baseline and fine-tuned side by side
	$(RUN_PY) -m medsql.compare $(ARGS)

notebook: $(STAMP) ## execute the tour in notebooks/ again, outputs and all: eleven minutes on two cores
	$(RUN_PY) notebooks/execute_tour.py

# By the number of their tests, files would be in an order that has the longest last.
test: $(STAMP) ## the tests that take some seconds each
	$(RUN_PY) -m pytest -n auto --dist loadfile --no-loadscope-reorder -m 'not slow' $(ARGS)

test-slow: $(STAMP) ## the tests that take longer
	$(RUN_PY) -m pytest -m slow $(ARGS)

lint: $(STAMP) ## ruff and mypy
	$(RUN_PY) -m ruff check .
	$(RUN_PY) -m ruff format --check .
	$(RUN_PY) -m mypy

bench: $(STAMP) ## speed and memory, beside the alternatives
	$(RUN_PY) -m benchmarks $(ARGS)

clean: ## remove what is installed and cached; runs stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
