# make demo | notebooks | test | lint | bench | bench-peers | docs | matrix | slurm-up | slurm-down. Everything is installed
# into .venv; nothing else on the machine changes, but that root's test and slurm-up install Debian's SLURM.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: demo notebooks test lint bench bench-peers docs matrix slurm-up slurm-down install
demo: $(STAMP)
	$(BIN)/python -m research.demo

# JupyterLab, for this machine only, so also in a container, where one is root. Its kernel is that of .venv.
notebooks: $(BIN)/jupyter-lab
	cd notebooks && ../$(BIN)/jupyter lab --ip 127.0.0.1 --allow-root

$(BIN)/jupyter-lab: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[notebooks]'
	touch $@

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist loadfile tests

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# About four minutes. tests/benchmarks/README.md says what else is measured.
bench: $(STAMP)
	mkdir -p build/bench
	$(BIN)/python tests/benchmarks/limits.py >build/bench/limits.jsonl
	for dtype in fp32 bf16; do \
	  $(BIN)/python tests/benchmarks/step.py --size small --batch 8 --dtype $$dtype && \
	  $(BIN)/python tests/benchmarks/step.py --size large --batch 4 --dtype $$dtype || exit 1; \
	done >build/bench/step.jsonl
	$(BIN)/python tests/benchmarks/parts.py >build/bench/parts.jsonl
	$(BIN)/python tests/benchmarks/curves.py >build/bench/curves.jsonl
	$(BIN)/python tests/benchmarks/table.py build/bench/limits.jsonl build/bench/step.jsonl build/bench/parts.jsonl \
	  build/bench/curves.jsonl

# Peers for tests/benchmarks/against.py, each in an environment of its own (8 GB); make build/peers/NAME/installed makes one.
bench-peers: $(STAMP) build/peers/nemo/installed build/peers/fairseq2/installed build/peers/speechbrain/installed
build/peers/nemo/installed:
	$(PYTHON) -m venv build/peers/nemo
	build/peers/nemo/bin/pip install --quiet torch==2.9.1 torchaudio==2.9.1 'nemo-toolkit[asr]==3.0.0'
	touch $@

build/peers/fairseq2/installed:
	$(PYTHON) -m venv build/peers/fairseq2
	build/peers/fairseq2/bin/pip install --quiet torch==2.9.1 torchaudio==2.9.1 fairseq2==0.8.1
	touch $@

build/peers/speechbrain/installed:
	$(PYTHON) -m venv build/peers/speechbrain
	build/peers/speechbrain/bin/pip install --quiet torch==2.9.1 torchaudio==2.9.1 speechbrain==1.1.2
	touch $@

docs: $(STAMP)
	$(BIN)/hark docs --out build/docs

# One training step of every combination of parts that is not refused.
matrix: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m research.conformance.matrix_command

# A toy cluster on this machine: eval "$(make slurm-up)" lets this shell see it. Packages of SLURM need root and apt.
slurm-up: $(STAMP)
	@$(BIN)/python -m tests.slurm up

slurm-down: $(STAMP)
	@$(BIN)/python -m tests.slurm down

install: $(STAMP)
$(STAMP): setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	touch $@
