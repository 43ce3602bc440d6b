#!/usr/bin/env bash
# Run every check of the project: lint, format, types, documentation, tests.
#
#     bash scripts/test.sh [arguments for pytest]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/_environment.sh
trap 'printf "\nThe checks failed: the lines above say why.\n" >&2' ERR

ensure_environment demo docs tensorflow test

step "Lint"
.venv/bin/ruff check

step "Format"
.venv/bin/ruff format --check

step "Types"
.venv/bin/mypy

step "Documentation"
.venv/bin/sphinx-build -W docs build/docs

step "Tests"
.venv/bin/python -m pytest --durations=10 "$@"

printf '\nAll checks passed.\n'
