#!/usr/bin/env bash
# Submit the jobs that capture the states of a model in shards, and then count them on a cluster.
#
#     bash scripts/slurm/submit.sh MODEL DATA RUN SHARDS --attach-to CLASS [--batch-size N ...]
#
# Give the limits of your cluster (partition, account, time, memory) in SBATCH_... variables or in
# the first lines of capture.sh and count.sh. RUN is a path or URL that all nodes reach. The
# environment with tensorstate is .venv, or the one that TENSORSTATE_ENV names.
#
# Tasks that failed, or came to the end of their time, go on where they stood:
#
#     sbatch --array=2,5 scripts/slurm/capture.sh MODEL DATA RUN SHARDS --attach-to CLASS
set -euo pipefail
if (($# < 4)); then
    echo "usage: bash scripts/slurm/submit.sh MODEL DATA RUN SHARDS --attach-to CLASS" >&2
    exit 2
fi
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

run=$3
shards=$4
capture=$(sbatch --parsable --array="0-$((shards - 1))" scripts/slurm/capture.sh "$@")
# Counted only if every shard was captured to its end.
count=$(sbatch --parsable --dependency="afterok:$capture" --kill-on-invalid-dep=yes \
    scripts/slurm/count.sh "$run")
echo "capture: job $capture, $shards tasks; then count: job $count"
