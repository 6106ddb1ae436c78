PYTHON ?= python3
VENV ?= .venv
export AUDIO
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
.DEFAULT_GOAL := help
.PHONY: help install format lint test smoke check demo parity bench coverage dist

help:      ## list the targets
	@sed -n 's/^\([a-z]*\): *[^#]*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

install: $(INSTALLED)  ## .venv with the package, editable, and all its extras (PYTHON=python3.11 picks another)

# A stamp rather than the folder: it is written last, so a broken installation is repeated.
$(INSTALLED): setup.cfg pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV), once: some minutes, most of them for torch." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all]'
	@touch $@

format: install  ## rewrite the code: order of imports, line breaks, what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lint: install  ## look only: ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test: install  ## the whole suite, under five minutes
	$(BIN)/python -m pytest

smoke: install  ## the whole way in two minutes: simulate, check, train 20 steps, infer, score
	rm -rf exp/smoke
	$(BIN)/diarize simulate recipes/demo/utterances.jsonl --config 'num_speakers=[0,1,1]' \
		--config duration=15 --num-sessions 4 --output exp/smoke/sessions
	$(BIN)/diarize check exp/smoke/sessions/manifest.jsonl
	$(BIN)/diarize train conf/tiny.yaml data.utterances=recipes/demo/utterances.jsonl \
		'data.simulation.num_speakers=[0,1,1]' data.simulation.duration=15 data.batch_size=4 \
		data.validation=exp/smoke/sessions/manifest.jsonl trainer.validate_every=20 \
		trainer.max_steps=20 trainer.log_every=5 --output exp/smoke/model
	$(BIN)/diarize infer --manifest exp/smoke/sessions/manifest.jsonl --model exp/smoke/model \
		--output exp/smoke/sys
	$(BIN)/diarize score exp/smoke/sessions/manifest.jsonl exp/smoke/sys

check: lint smoke test  ## what CI runs: lint, smoke, test

demo: install  ## diarize the sample conversation, or AUDIO=any.wav, into demo/
	@if [ -n "$$AUDIO" ]; then \
		name=$$(basename "$$AUDIO" | sed 's/\.[^.]*$$//' | tr ' ' '_'); \
		set -- "$$AUDIO" --session-id "$$name"; \
	else \
		name=conversation; \
		set -- --manifest recipes/demo/manifest.jsonl; \
	fi; \
	$(BIN)/diarize infer "$$@" --output demo --format rttm,json --picture demo && \
	cat "demo/$$name.rttm" && \
	echo "demo/ holds $$name.rttm, $$name.json and $$name.png." >&2

parity: install  ## compare with other implementations: pyannote.metrics, meeteval, stored NeMo outputs
	$(BIN)/python -m pytest -m parity

bench: install  ## speed, memory and start-up times, as a table
	$(BIN)/python recipes/bench/bench.py

coverage: install  ## the lines that no test reaches
	$(BIN)/coverage run -m pytest && $(BIN)/coverage report

dist: install  ## a wheel and a source archive in dist/
	$(BIN)/python -m build
