# `make demo` and `make test` set themselves up: git, make and Python 3.11 or newer are enough.
SHELL := /bin/bash
PYTHON ?= python3
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
SYNC := $(UV) sync --quiet --frozen --compile-bytecode --extra trainer --extra slurm
RUN := .venv/bin/python -m

.PHONY: test-slow demo test check format graph test-sky test-clouds test-clouds-short rehearse-gpu reliability bench bench-sync bench-trainer requirements picture reference site changelog clean
.DEFAULT_GOAL := test

demo: .venv/ready
	.venv/bin/cloudrun demo

# Three at once on two cores: tests wait more than they compute.
test: .venv/ready
	$(RUN) pytest -m "not sky and not clouds and not slow" -n 3 --dist loadfile

# What takes long: a compiler, machines that are lost.
test-slow: .venv/ready
	$(RUN) pytest -m "slow and not clouds" -n 2 --dist loadfile

# SkyPilot itself, on a Slurm cluster that the tests start on this machine (Debian, root).
test-sky: .venv/ready
	$(RUN) pytest -m sky --timeout 900 tests/sky

# SkyPilot's AWS and RunPod, on accounts and machines that the tests make on this computer (Debian, root).
test-clouds: .venv/ready
	$(RUN) pytest -m clouds --timeout 900 tests/clouds

# Of these, what CI has time for: the main job and its receipt, and what ends a bill where Ray or the switch is killed.
test-clouds-short: .venv/ready
	$(RUN) pytest -m "clouds and not slow" --timeout 900 tests/clouds

# Everything that can go wrong around a machine, for real: the tables of docs/reliability.md (Debian, root; 20 minutes on
# Slurm, 50 on each cloud). `make reliability ON=aws`: one of them.
ON ?= slurm aws runpod
reliability: .venv/ready
	for ground in $(ON); do $(RUN) benchmarks.reliability --on $$ground || exit 1; done

# The GPU benchmark on this CPU, in an environment and a tree as a GPU machine without internet has them.
rehearse-gpu: .venv/ready
	benchmarks/gpu-rehearsal.sh

check: .venv/ready
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	.venv/bin/lint-imports
	.venv/bin/codespell

# Which package imports which, as ARCHITECTURE.md shows it; fails where there is a cycle.
graph: .venv/ready
	@$(RUN) benchmarks.import_graph

format: .venv/ready
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

# The figures of docs/benchmarks.md: minutes, on a machine that does nothing else.
bench: .venv/ready
	$(RUN) benchmarks.cli_start
	$(RUN) benchmarks.near_duplicates
	$(RUN) benchmarks.sky_overhead
	$(RUN) benchmarks.potato
	$(RUN) benchmarks.estimate

# Transfers against aws, s5cmd, rclone, obstore and rsync: half an hour, on a machine that does nothing else.
bench-sync: .venv/ready
	$(RUN) benchmarks.sync

# The trainer's part of docs/benchmarks.md (needs the shared images): its data path, kills, a competition, stacking:
# more than an hour, on two cores that do nothing else.
bench-trainer: .venv/ready
	$(RUN) benchmarks.trainer
	-$(RUN) benchmarks.gpu
	$(RUN) benchmarks.kills
	$(RUN) benchmarks.kills 200 400 2
	$(RUN) benchmarks.ranks
	$(RUN) benchmarks.seedlings
	$(RUN) benchmarks.stacking

# The versions that a rented machine installs are those of uv.lock.
requirements: .venv/ready
	@$(UV) export --quiet --frozen --only-group machine --no-hashes --no-emit-project --no-header --no-annotate \
	  | grep -E '^(boto3|numpy|pillow|pydantic|pyyaml|timm|torch|torchvision)==' > trainer/requirements.txt

# docs/launch.svg, the picture of README.md: of a real launch on this computer.
picture: .venv/ready
	$(RUN) benchmarks.picture

# The generated parts of docs/reference: the keys of a job file, the options of every command.
reference: .venv/ready
	$(RUN) docs.tools.reference

# The documents as a site in .site/html; a link that leads nowhere fails it.
site:
	@command -v uv >/dev/null || test -x .uv/bin/uv || { $(PYTHON) -m venv .uv && .uv/bin/pip install --quiet uv; }
	UV_PROJECT_ENVIRONMENT=.site/venv $(UV) sync --quiet --frozen --only-group docs
	.site/venv/bin/python -m docs.tools.site

# Move the fragments in changes/ into CHANGELOG.md: `make changelog VERSION=0.2.0`.
changelog: .venv/ready
	@test -n "$(VERSION)" || { echo "error: no version; hint: make changelog VERSION=0.2.0" >&2; exit 2; }
	.venv/bin/towncrier build --yes --version $(VERSION)

.venv/ready: pyproject.toml uv.lock
	@command -v uv >/dev/null || test -x .uv/bin/uv || { $(PYTHON) -m venv .uv && .uv/bin/pip install --quiet uv; }
	$(SYNC)
	@touch $@

clean:
	rm -rf .venv .uv runs .pytest_cache .mypy_cache .ruff_cache
