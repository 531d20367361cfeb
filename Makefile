# Everything runs in .venv, which `make` creates; a fresh machine needs Python 3.10 or later and nothing else.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test test-gpu lint docs bench bench-gpu claims exam exam-split exam-porting fuzz mutants soak clean

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Frostline needs Python 3.10 or later")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e '.[vision,port,export,tune,dev]'
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/frostline demo

# Two processes, each on one thread: the networks of the tests are too small for more. `-n 0` beside a debugger.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal --durations=20

test-gpu: $(STAMP)
	CUDA_VISIBLE_DEVICES=0 $(BIN)/pytest tests/laws/test_cuda.py

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# The documentation as pages in docs/_build/html; the tests run its examples.
docs: $(STAMP)
	$(BIN)/python docs/pages.py
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

bench: $(STAMP)
	$(BIN)/pip install --quiet -c constraints.txt torchcache torch-module-cache
	$(BIN)/python benchmarks/run.py

bench-gpu: $(STAMP)
	$(BIN)/python benchmarks/run.py --device cuda --only p1 p3

CLAIMS := gradients_by_depth dead_relus elu_price batchnorm clipping depth

claims: $(STAMP)
	for name in $(CLAIMS); do $(BIN)/python docs/claims/$$name.py || exit 1; done
	$(BIN)/python docs/claims/page.py

exam: $(STAMP)
	$(BIN)/python -m exams.health
	$(BIN)/python -m exams.health --judge frostline --repair-only --merge
	$(BIN)/python -m exams.health --judge autotrainer random --small --repair-only --merge

# Models of timm and transformers, split, cached and compared (an hour and a half of one core; it goes on where it was).
exam-split: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m exams.split

# Networks of seven frameworks, each built in an environment of its own (4 GB and half an hour the first time).
exam-porting: $(STAMP)
	$(BIN)/pip install --quiet -c constraints.txt onnx==1.23.2
	OMP_NUM_THREADS=1 $(BIN)/python -m exams.porting
	OMP_NUM_THREADS=1 $(BIN)/python -m exams.porting.onnx_tests

# A seeded sample of small changes of the source, each of which a test should notice; survivors are printed.
mutants: $(STAMP)
	$(BIN)/python -m exams.mutants --count 218 --seed 0

# Generated models for an hour, then every odd value of every public call.
fuzz: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m exams.fuzz --seconds 3600
	$(BIN)/python -m exams.fuzz.calls --single
	OMP_NUM_THREADS=1 $(BIN)/python -m exams.fuzz.readers --seconds 900
	OMP_NUM_THREADS=1 $(BIN)/python -m exams.fuzz.flattens --cases 3000
	OMP_NUM_THREADS=1 $(BIN)/python -m exams.fuzz.assignments --count 5000
	OMP_NUM_THREADS=1 $(BIN)/python -m exams.fuzz.scaffolds --cases 20000

clean:
	rm -rf .venv frostline-demo

# Faults of the cache: every system call failing, kills, many builders at once. It prints counts; an hour is plenty.
soak: $(STAMP)
	$(BIN)/python -m exams.reliability
