#!/usr/bin/env bash
# Run tests with the lowest versions that pyproject.toml allows, on the lowest Python, in build/lowest.
#
#     bash scripts/test_lowest.sh [arguments for pytest]
#
# Without arguments it runs all tests but the examples and those of packages, pages and benchmarks.
# PyTorch's floor is not tried: the tests pin a version, as what installs otherwise is very large.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/_environment.sh
trap 'printf "\nThe lowest versions failed: the lines above say why.\n" >&2' ERR

extras=(demo tensorflow jax report xarray s3 cluster docs bench test)
folder=build/lowest
python=$(find_python 11 11) || fail "Python 3.11, the lowest that is supported, is needed on the PATH."
make_environment "$folder" "$python"

if ! cmp -s pyproject.toml "$folder/installed"; then
    ensure_tools packaging uv
    step "Finding versions"
    build/tools/bin/python scripts/floors.py "${extras[@]}" >"$folder/floors.txt"
    # pip alone would find what goes with the floors too, after tens of minutes.
    build/tools/bin/uv pip compile pyproject.toml "${extras[@]/#/--extra=}" \
        --system-certs --python "$folder/bin/python" --constraints "$folder/floors.txt" \
        --no-header --no-annotate --quiet --upgrade --output-file "$folder/versions.txt"
    step "Installing the lowest versions into $folder"
    wanted=$(IFS=,; echo "${extras[*]}")
    install_project "$folder" "$wanted" "$folder/versions.txt" ||
        fail "The lowest versions could not be installed: the lines above say why."
    cp pyproject.toml "$folder/installed"
fi

if (($# == 0)); then
    set -- tests --ignore=tests/test_package.py --ignore=tests/test_scripts.py \
        --ignore=tests/test_docs.py --ignore=tests/test_benchmarks.py
fi
step "Tests with the lowest versions"
"$folder/bin/python" -m pytest --durations=10 "$@"

printf '\nThe lowest versions passed.\n'
