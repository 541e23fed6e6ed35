# make book | test | bench | serve | setup | unlock | clean
#   PROFILE=smoke|laptop|paper (or a .yaml of yours)   MAPS_ROOT=/path/to/MAPS   CORES=n   PYTHON=python3.12

PYTHON    ?= python3
PROFILE   ?= laptop
MAPS_ROOT ?=
CORES     ?= $(shell getconf _NPROCESSORS_ONLN)
PORT      ?= 8000

VENV  := .venv
WORK  := work/$(basename $(notdir $(PROFILE)))$(if $(MAPS_ROOT),-maps)
TEST  := work/test
PAGES := site/_build/html
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

SNAKEMAKE := $(VENV)/bin/snakemake --snakefile workflow/Snakefile --cores $(CORES) --rerun-incomplete --quiet rules --config

.PHONY: book test bench serve setup unlock clean

book: setup
	$(SNAKEMAKE) profile=$(PROFILE) work=$(WORK) maps_root="$(MAPS_ROOT)"
	@echo "The book is ready.  Open $(WORK)/$(PAGES)/index.html or run: make serve"

test: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pytest --numprocesses $(CORES) --dist loadfile
	rm -rf $(TEST)
	$(SNAKEMAKE) profile=smoke work=$(TEST) recompute=yes

bench: setup
	$(VENV)/bin/pip install --quiet --no-deps --requirement benchmarks/requirements.txt
	$(VENV)/bin/python -m benchmarks

serve:
	$(PYTHON) -m http.server --directory $(WORK)/$(PAGES) $(PORT)

setup: $(VENV)/installed

$(VENV)/installed: requirements.txt pyproject.toml workflow/system_packages.sh
	PYTHON=$(PYTHON) sh workflow/system_packages.sh
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --requirement requirements.txt
	$(VENV)/bin/pip install --quiet --no-deps --editable .
	touch $@

unlock: setup
	$(SNAKEMAKE) profile=$(PROFILE) work=$(WORK) --unlock

clean:
	rm -rf work .snakemake $(VENV) *.egg-info
