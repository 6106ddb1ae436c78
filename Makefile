PYTHON ?= python3
VENV ?= .venv
export AUDIO
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PEERS ?= .peers
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help install interpreter format lint test smoke check demo parity bench peers bench-peers baseline
.PHONY: coverage page dist

help:      ## list the targets
	@sed -n 's/^\([a-z-]*\): *[^#]*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

install: $(INSTALLED)  ## .venv with the package, editable, and all its extras (PYTHON=python3.11 picks another)

# A stamp rather than the folder: it is written last, so a broken installation is repeated.
$(INSTALLED): setup.cfg pyproject.toml | interpreter
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV), once: some minutes, most of them for torch." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all]'
	@touch $@

# A .venv that is there is used, so a PYTHON that was asked for must be the one it has.
interpreter:
	@python=$(PYTHON); test ! -x $(BIN)/python || python=$(BIN)/python; \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: $$python is no Python 3.11 or newer. Name one, as in: make PYTHON=python3.11;" \
			"where it is in $(VENV), remove that first." >&2; exit 1; }
ifneq ($(origin PYTHON),file)
	@test ! -x $(BIN)/python || [ "$$($(BIN)/python -V)" = "$$($(PYTHON) -V)" ] || { \
		echo "make: $(VENV) has $$($(BIN)/python -V), but PYTHON is $$($(PYTHON) -V)." \
			"Remove $(VENV), or name another folder, as in: make VENV=.venv2." >&2; exit 1; }
endif

format: install  ## rewrite the code: order of imports, line breaks, what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lint: install  ## look only: ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test: install  ## the whole suite, under five minutes
	$(BIN)/python -m pytest

smoke: install  ## recipes/mini on a toy corpus, in three minutes: simulate, train a few steps, infer, score
	rm -rf exp/smoke
	$(BIN)/python recipes/mini/toy.py exp/smoke/corpus
	$(BIN)/diarize check exp/smoke/corpus/train.jsonl
	XDG_CACHE_HOME=exp/smoke/cache recipes/mini/run.sh --toy --corpus exp/smoke/corpus \
		--real exp/smoke/none --output exp/smoke/mini

check: lint demo smoke test  ## what CI runs: lint, demo, smoke, test

demo: install  ## diarize the sample conversation, or AUDIO=any.wav, into demo/
	@if [ -n "$$AUDIO" ]; then \
		name=$$(basename "$$AUDIO" | sed 's/\.[^.]*$$//' | tr ' ' '_'); \
		set -- "$$AUDIO" --session-id "$$name"; \
	else \
		name=conversation; \
		set -- --manifest recipes/demo/manifest.jsonl; \
	fi; \
	rm -f "demo/$$name.rttm" "demo/$$name.json" "demo/$$name.png" && \
	$(BIN)/diarize infer "$$@" --output demo --format rttm,json --picture demo && \
	cat "demo/$$name.rttm" && test -s "demo/$$name.json" && test -s "demo/$$name.png" && \
	{ [ -n "$$AUDIO" ] || test -s "demo/$$name.rttm"; } && \
	echo "demo/ holds $$name.rttm, $$name.json and $$name.png." >&2

parity: install  ## compare with other implementations: pyannote.metrics, meeteval, stored NeMo outputs
	@said=$$($(BIN)/python -m pytest -m parity); status=$$?; echo "$$said"; \
	[ $$status -eq 0 ] || exit $$status; \
	echo "$$said" | grep -q '[0-9] passed' || { \
		echo "make: every parity test was skipped; above stands what each lacks." >&2; exit 1; }

bench: install  ## speed, memory and start-up times of all there is, as tables, and in exp/bench.json
	rm -f exp/bench.json
	$(BIN)/python recipes/bench/bench.py --json exp/bench.json
	$(BIN)/python recipes/bench/step.py small/8x30 base/2x45 --steps 2 --json exp/bench.json
	$(BIN)/python recipes/bench/simulation.py recipes/demo/utterances.jsonl --alone --json exp/bench.json
	$(BIN)/python recipes/bench/published.py --json exp/bench.json
	$(BIN)/python recipes/bench/curves.py --json exp/bench.json

peers: $(PEERS)/.installed  ## NeMo and transformers in .peers, to compare with

bench-peers: install peers  ## the same work by NeMo and transformers, in half an hour
	rm -f exp/bench-peers.json
	$(BIN)/python recipes/bench/peers.py --peers $(PEERS)/bin/python --json exp/bench-peers.json

# Outside .venv, since their pins are not ours; with our torch, since that is not what is compared.
$(PEERS)/.installed: | install
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@echo "Installing NeMo and transformers into $(PEERS), once: some minutes." >&2
	@torch=$$($(BIN)/python -c 'from importlib.metadata import version as v; \
		print(*(f"{n}=={v(n)}".split("+")[0] for n in ("torch", "torchaudio")))'); \
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check $$torch \
		'nemo_toolkit[asr]==3.0.0' 'transformers>=5.23,<6'
	@touch $@

baseline: install  ## take figures that no machine changes into recipes/bench/baseline.json
	$(BIN)/python recipes/bench/figures.py --write

coverage: install  ## the lines that no test reaches
	$(BIN)/coverage run -m pytest && $(BIN)/coverage report

page:      ## rebuild the script of diarize view's pages from diarize/view/web; needs npm and its registry
	cd diarize/view/web && npm ci --ignore-scripts --no-audit --no-fund && node build.mjs

dist: install  ## a wheel and a source archive in dist/
	$(BIN)/python -m build
