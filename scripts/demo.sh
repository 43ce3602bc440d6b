#!/usr/bin/env bash
# Train LeNet-5 on digits, capture its states, count them, and print what they say.
#
#     bash scripts/demo.sh [--retrain] [other options of tensorstate demo]
#
# The trained model and the run are kept in build/demo; --retrain trains anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/_environment.sh
trap 'printf "\nThe demo failed: the lines above say why.\n" >&2' ERR

ensure_environment demo tensorflow

step "LeNet-5: training, capture, efficiency and aIQ"
.venv/bin/tensorstate demo --folder build/demo "$@"

step "The stored run, reopened without TensorFlow"
.venv/bin/tensorstate info build/demo/run.zarr

printf '\nDone. The run is in build/demo/run.zarr, the model in build/demo/lenet5.keras.\n'
