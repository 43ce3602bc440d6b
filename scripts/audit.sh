#!/usr/bin/env bash
# Look up known vulnerabilities of every version in scripts/lock.txt; exit code 1 if there are any.
#
#     bash scripts/audit.sh [options of pip-audit]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/_environment.sh
trap 'printf "\nThe lock is not known to be without vulnerabilities: the lines above say why.\n" >&2' ERR

ensure_tools pip-audit

step "Known vulnerabilities"
# Strict: without it, a package that the service says nothing about would pass as one without any.
build/tools/bin/pip-audit --strict --disable-pip --no-deps --requirement scripts/lock.txt "$@"
