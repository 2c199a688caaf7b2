# The two commands are `make book` and `make test`; `make help` lists the rest.

PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
PROFILE ?= quick
DEVICE  ?= auto
SEED    ?= 0
CHAPTERS ?=
SUBMISSIONS ?=
ASSIGNMENT ?=
WORKERS ?= auto

# Only plain pip: it reads the same configuration files on every machine, wheels for this machine's torch included.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: help book test test-long test-anywhere bench sync course grade clean

help:
	@echo 'make book     execute what changed, build the site'
	@echo '                PROFILE=smoke|quick|paper  CHAPTERS="01 06"  DEVICE=cpu|cuda  SEED=0  PYTHON=python3.12'
	@echo 'make test     unit tests, every chapter in smoke, the built pages, pairs, style'
	@echo 'make test-long   what is longer: every chapter traced, a wheel without the book'
	@echo 'make test-anywhere   the unit tests as other processors would run them: up to 12 configurations, 25 minutes'
	@echo 'make bench    the margins against other libraries, single thread'
	@echo 'make sync     make each notebook from its text, unless it holds words of its own'
	@echo 'make course   the assignments: what students are given, and the guide for instructors, in build/course'
	@echo 'make grade    grade a folder or a zip of submissions, each isolated; results beside it'
	@echo '                SUBMISSIONS=folder  ASSIGNMENT=01'
	@echo 'make clean    delete what was executed and built (the networks and $(VENV) stay)'

book: $(VENV)/book.stamp
	@$(BIN)/python -P -m tightrope book --profile "$(PROFILE)" --device "$(DEVICE)" --seed "$(SEED)" --chapters $(CHAPTERS)

test: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest --doctest-modules lib/tightrope
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-long: $(VENV)/test.stamp
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -m long -n $(WORKERS)

test-anywhere: $(VENV)/test.stamp
	@$(BIN)/python tests/anywhere.py

bench: $(VENV)/test.stamp
	@$(PIP) --no-deps adv-lib==0.2.8
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench

sync: $(VENV)/book.stamp
	@$(BIN)/python -P -m tightrope sync $(CHAPTERS)

course: $(VENV)/course.stamp
	@$(BIN)/python -P -m tightrope course

grade: $(VENV)/course.stamp
	@$(if $(SUBMISSIONS),,echo 'Say what to grade: make grade SUBMISSIONS=folder'; exit 2)
	@$(BIN)/python -P -m tightrope grade "$(SUBMISSIONS)" $(if $(ASSIGNMENT),--assignment "$(ASSIGNMENT)")

clean:
	@$(if $(wildcard build),find build -mindepth 1 -maxdepth 1 ! -name networks -exec rm -rf {} +)
	@echo 'build/ is empty, but for trained networks.'

# A stamp is touched when its install has ended well, so that a broken one is done again.
$(VENV)/book.stamp: pyproject.toml | $(BIN)/python
	@echo 'Installing what the book needs (once; about 1.5 GB, 5 GB where torch comes with CUDA) ...'
	@$(PIP) -e '.[book]'
	@touch $@

$(VENV)/test.stamp: pyproject.toml | $(BIN)/python
	@echo 'Installing what the tests need (once) ...'
	@$(PIP) -e '.[book,test]'
	@touch $(VENV)/book.stamp $(VENV)/course.stamp $@

$(VENV)/course.stamp: pyproject.toml | $(BIN)/python
	@echo 'Installing what the course needs (once) ...'
	@$(PIP) -e '.[book,course]'
	@touch $(VENV)/book.stamp $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || \
	  { echo 'The book needs Python 3.11 to 3.14: make PYTHON=python3.12 $(MAKECMDGOALS)'; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo 'Python could not make a virtual environment; on Debian: apt-get install python3-venv'; exit 1; }
