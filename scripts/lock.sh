#!/usr/bin/env bash
# Make scripts/lock.txt anew: the versions with which CI runs, of everything that the project may need.
#
#     bash scripts/lock.sh                            # the newest of everything
#     bash scripts/lock.sh --upgrade-package numpy    # only NumPy's; other options of uv pip compile
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/_environment.sh
trap 'printf "\nThere is no new lock: the lines above say why.\n" >&2' ERR

ensure_tools uv
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp scripts/lock.txt "$folder" 2>/dev/null || true

step "Finding versions for Python $locked_python on $locked_platform"
# What builds the package is locked as well: it is installed anew for every build.
build/tools/bin/python - >"$folder/more.in" <<'PYTHON'
import tomllib

with open("pyproject.toml", "rb") as file:
    print(*tomllib.load(file)["build-system"]["requires"], sep="\n")
PYTHON
# What furo needs has had no final release: the one pre-release that is taken.
echo "sphinx-basic-ng>=1.0.0b2" >>"$folder/more.in"
build/tools/bin/uv pip compile pyproject.toml "$folder/more.in" --all-extras \
    --system-certs --python build/tools/bin/python --python-version "$locked_python" \
    --python-platform "${locked_platform#linux-}-manylinux_2_28" \
    --prerelease explicit --no-header --no-annotate --quiet --output-file "$folder/lock.txt" \
    "${@:---upgrade}"

cat - "$folder/lock.txt" >scripts/lock.txt <<TEXT
# The versions with which CI runs: constraints for Python $locked_python on $locked_platform, made by
#     bash scripts/lock.sh
# There are no hashes: pip compares those of all packages or of none, but the project itself, which is
# installed from its folder, has none, and PyTorch's CPU build is another file than the index's.
TEXT
echo "scripts/lock.txt has $(grep -c == scripts/lock.txt) versions."
