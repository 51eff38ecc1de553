# Every target brings its own set-up: `make demo` on a fresh clone is enough.
PYTHON ?= python3
OUT ?= runs/demo
SCALE ?= demo
DATA ?= embedded
DATA_ROOT ?=
ARGS ?=

BIN := .venv/bin
STAMP := .venv/.audiotk-setup
# Both CLAP packages work here, but declare pins of 2023 (numpy < 2, transformers < 5): they come without dependencies.
CLAP := laion-clap==1.1.7 msclap==1.3.4
UV := $(shell command -v uv 2>/dev/null)
# uv from outside, or the one that set-up put into .venv, or pip
INSTALL = $$(uv=$$(command -v uv || command -v $(BIN)/uv); echo $${uv:-$(BIN)/python -m} pip install $${uv:+--python $(BIN)/python} $(if $(MAKE_TERMOUT),,--quiet))

.DEFAULT_GOAL := help
.PHONY: help setup demo run lab labeler test lint doctor clean

help:  ## say what there is (the default)
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make the environment in .venv, by uv where it is installed, else by pip; again: nothing to do

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: no $(PYTHON) here; say make setup PYTHON=/path/to/python3.11 (or newer)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: audiotk needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) -V); say make setup PYTHON=python3.11" >&2; exit 1; }
ifneq ($(UV),)
	@test -x $(BIN)/python || $(UV) venv --quiet --seed --python "$$(command -v $(PYTHON))" .venv
else
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; echo "make: $(PYTHON) cannot make environments; on Debian: apt-get install python3-venv; or install uv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet uv || echo "make: uv cannot be installed, so pip does the work (slower)" >&2
endif
	@echo "make: installing into .venv; the first time this takes some minutes" >&2
	@if command -v $${CC:-cc} >/dev/null; then \
		$(INSTALL) -c constraints.txt -e '.[all]'; \
	else \
		echo "make: no C compiler, so sed-scores-eval (event scores, PSDS) is left out" >&2; \
		grep -v '^sed-scores-eval==' constraints.txt > .venv/without-compiler.txt; \
		$(INSTALL) --no-deps -r .venv/without-compiler.txt && $(INSTALL) --no-deps -e .; \
	fi
	@$(INSTALL) --no-deps $(CLAP)
	@touch $@

demo: $(STAMP)  ## run all notebooks and write a report: OUT=runs/demo SCALE=demo DATA=embedded DATA_ROOT=
	$(BIN)/audiotk run notebooks --out $(OUT) --scale $(SCALE) -p data $(DATA) $(if $(DATA_ROOT),-p data_root '$(patsubst ~/%,$(HOME)/%,$(DATA_ROOT))') $(ARGS)

run: $(STAMP)  ## run one notebook: NB=notebooks/00_quickstart.ipynb ARGS="-p data esc50 -p data_root ../ESC-50"
	@test -n "$(NB)" || { echo 'make: say which, as in make run NB=notebooks/00_quickstart.ipynb' >&2; exit 1; }
	$(BIN)/audiotk run $(NB) $(ARGS)

lab: $(STAMP)  ## open the notebooks in JupyterLab, on this machine only
	$(BIN)/jupyter lab --ip=127.0.0.1 --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks $(if $(filter 0,$(shell id -u)),--allow-root) $(ARGS)

# Voila's page wants two style sheets from a CDN; CSP keeps the browser from asking any other machine for anything.
CSP := default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'
# The token guards the page and its kernel, but not files that Voila gives away, so none are listed here: sound comes from
# the kernel. On a machine of your own, ARGS='--VoilaConfiguration.file_allowlist=.*[.](wav|flac|ogg|mp3)' adds them.
# Cells tagged after-labeling (figures, training) are neither run nor shown on the page.
labeler: $(STAMP)  ## label sounds on a page without code, on this machine only: NB=notebooks/01_label_segments.ipynb
	$(BIN)/voila $(or $(NB),notebooks/01_label_segments.ipynb) --Voila.ip=127.0.0.1 --Voila.auto_token=True --MappingKernelManager.cull_idle_timeout=600 --MappingKernelManager.cull_interval=60 --TagRemovePreprocessor.remove_cell_tags=after-labeling "--Voila.tornado_settings={'headers': {'Content-Security-Policy': \"$(CSP)\"}}" $(ARGS)

test: $(STAMP)  ## run the tests, on up to four processors; those in a browser are skipped where there is no chromium
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

lint: $(STAMP)  ## check style and types, and that notebooks carry no outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/nbstripout --verify $(wildcard notebooks/*.ipynb)

doctor: $(STAMP)  ## say what works on this machine
	$(BIN)/audiotk doctor

clean:  ## remove the environment and caches; run folders stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
