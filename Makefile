# Everything here sets up its own environment in .venv and needs only Python 3.11+, git, make and pip.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := runs/demo
INSTALLED := $(VENV)/.installed

export TOKENIZERS_PARALLELISM := false

.PHONY: demo test lint attention clean help

help:
	@echo "make demo   train a Korean-English model from nothing, publish it, load it elsewhere and translate"
	@echo "make test   run all tests but the slow ones (pytest -m slow)"
	@echo "make lint   check style and types"
	@echo "make attention  measure the claims of docs/attention.md anew (MULTI30K=folder for those on Multi30k)"
	@echo "make clean  delete the environment and the demo's files"

$(INSTALLED): pyproject.toml constraints.txt
	@echo "== setting up $(VENV) (once, a few minutes: PyTorch is large)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,lint,ecosystem,demo]"
	@touch $@

demo: $(INSTALLED)
	@echo "== training a Korean-English transformer from nothing, on data that the package generates"
	$(BIN)/trefoil train encoder-decoder-translation-embedded-ko-en output_dir=$(DEMO)/run
	@echo "== publishing it as a folder that loads with transformers alone"
	$(BIN)/trefoil publish $(DEMO)/run $(DEMO)/published --overwrite
	@echo "== using the folder in another process, without Trefoil and without a network"
	@$(BIN)/python -I benchmarks/elsewhere.py $(DEMO)/published
	@echo "== done: the model is in $(DEMO)/published, its results in README.md there, its curve in curve.png"

test: $(INSTALLED)
	@echo "== running the tests on all cores"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m "not slow"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

attention: $(INSTALLED)
	$(BIN)/python -m benchmarks.claims $(if $(MULTI30K),--multi30k $(MULTI30K))

clean:
	rm -rf $(VENV) $(DEMO)
