# Everything here sets up its own environment in .venv and needs only Python 3.11+, git, make and pip.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := runs/demo
# a stamp for each set of packages; `make demo` needs no more than training does
DEMO_INSTALLED := $(VENV)/.demo
INSTALLED := $(VENV)/.installed
DOCS_INSTALLED := $(VENV)/.docs
DEVELOPMENT := test,lint,ecosystem
# an environment of its own: what these need would change what is tested
RELEASE := .venv-release
RELEASE_INSTALLED := $(RELEASE)/.installed

export TOKENIZERS_PARALLELISM := false

define install
	@echo "== setting up $(VENV) (once, a few minutes: PyTorch is large)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(1)]"
	@touch $@
endef

# name, recipe, licence, and what is other than in the recipe
define train_model
	$(BIN)/trefoil train $(2) output_dir=runs/models/$(1) $(4)
	$(BIN)/trefoil publish runs/models/$(1) models/$(1) --overwrite --dtype bfloat16 --license $(3)
endef

.PHONY: demo test test-all lint attention tutorial models models-code docs dist dependencies audit clean help

help:
	@echo "make demo   train a Korean-English model from nothing, publish it, load it elsewhere and translate"
	@echo "make test   run the tests; make test-all also those that take minutes"
	@echo "make lint   check style and types"
	@echo "make attention  measure the claims of docs/attention.md anew (MULTI30K=folder for those on Multi30k)"
	@echo "make tutorial  type the commands of docs/tutorial.md, and write down what they print"
	@echo "make models  train the models of models/ anew (NSMC=folder SHAKESPEARE=folder for those on such data)"
	@echo "make models-code  give them the code as it is now"
	@echo "make dependencies  write docs/dependencies.md, the licence of each, and dist/sbom.cdx.json"
	@echo "make audit  look the pinned versions up among known vulnerabilities (needs pypi.org)"
	@echo "make docs   build the documentation's site in site/"
	@echo "make dist   build a wheel in dist/, of which the same commit gives the same bytes"
	@echo "make clean  delete the environment and the demo's files"

$(DEMO_INSTALLED): pyproject.toml constraints.txt
	$(call install,train)

$(INSTALLED): pyproject.toml constraints.txt
	$(call install,$(DEVELOPMENT))
	@touch $(DEMO_INSTALLED)

$(DOCS_INSTALLED): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt mkdocs-material "mkdocstrings[python]"
	@touch $@

demo: $(DEMO_INSTALLED)
	@echo "== training a Korean-English transformer from nothing, on data that the package generates"
	$(BIN)/trefoil train encoder-decoder-translation-embedded-ko-en output_dir=$(DEMO)/run
	@echo "== publishing it as a folder that loads with transformers alone"
	$(BIN)/trefoil publish $(DEMO)/run $(DEMO)/published --overwrite
	@echo "== using the folder in another process, without Trefoil and without a network"
	@$(BIN)/python -I benchmarks/elsewhere.py $(DEMO)/published
	@echo "== done: the model is in $(DEMO)/published, its results in README.md there, its curve in curve.png"

# each process would compile all tests again where bytecode is not kept
test: $(INSTALLED)
	@echo "== running the tests on all cores"
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --dist worksteal -m "not slow"

test-all: $(INSTALLED)
	@echo "== running all tests, also the slow ones, on all cores"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

attention: $(INSTALLED)
	$(BIN)/python -m benchmarks.claims $(if $(MULTI30K),--multi30k $(MULTI30K))

tutorial: $(INSTALLED)
	TREFOIL_WRITE_TUTORIAL=1 $(BIN)/python -m pytest tests/test_tutorial.py -k commands_print

models: $(DEMO_INSTALLED)
	$(call train_model,korean-english-expressions,encoder-decoder-translation-embedded-ko-en,apache-2.0)
	$(call train_model,korean-entities,encoder-token-classification-embedded,apache-2.0)
ifdef NSMC
	$(call train_model,korean-reviews,encoder-text-classification-nsmc,apache-2.0,data.path=$(NSMC))
endif
ifdef SHAKESPEARE
	$(call train_model,shakespeare,decoder-causal-lm-tinyshakespeare,apache-2.0,data.path=$(SHAKESPEARE) model.config.max_position_embeddings=256)
endif

models-code: $(DEMO_INSTALLED)
	@rm -rf runs/models-before && mkdir -p runs && cp -r models runs/models-before
	@for model in $$(ls models); do \
		license=$$(sed -n 's/^license: //p' models/$$model/README.md); \
		$(BIN)/trefoil publish runs/models-before/$$model models/$$model --overwrite --dtype bfloat16 --license $$license || exit 1; \
	done

$(RELEASE_INSTALLED):
	$(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/python -m pip install --quiet --disable-pip-version-check cyclonedx-bom pip-audit pip-licenses
	@touch $@

dependencies: $(INSTALLED) $(DOCS_INSTALLED) $(RELEASE_INSTALLED)
	@mkdir -p dist
	@(printf '# Dependencies\n\nWhat `make dependencies` found in the environment in which this is tested, with all extras for development: versions and\nlicences as the packages themselves name them. The base needs four of them: huggingface_hub, safetensors, torch, transformers.\n\n'; \
	$(RELEASE)/bin/pip-licenses --python $(BIN)/python --with-system --format markdown --ignore-packages trefoil-transformers pip) > docs/dependencies.md
	$(RELEASE)/bin/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-reproducible -o dist/sbom.cdx.json

audit: $(RELEASE_INSTALLED)
	$(RELEASE)/bin/pip-audit -r constraints.txt --no-deps --disable-pip

docs: $(DOCS_INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

dist:
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@rm -rf build dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip wheel --quiet --no-deps -w dist .

clean:
	rm -rf $(VENV) $(RELEASE) $(DEMO) build site
