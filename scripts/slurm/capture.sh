#!/usr/bin/env bash
# One task of an array captures one shard of the data, as one part of the run; see submit.sh.
#
#     sbatch --array=0-3 scripts/slurm/capture.sh MODEL DATA RUN 4 --attach-to CLASS
#
#SBATCH --job-name=tensorstate-capture
#SBATCH --output=%x-%A_%a.log
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem-per-cpu=2G
#SBATCH --time=01:00:00
# A node that fails is no loss: the task starts again, and goes on after what is committed.
#SBATCH --requeue
# A minute before its time is up, a task is told, so that it commits what it has.
#SBATCH --signal=B:TERM@60
set -euo pipefail
model=$1 data=$2 run=$3 shards=$4
shift 4

# Slurm runs a copy of this file in the folder that it was submitted from.
source "${TENSORSTATE_ENV:-.venv}/bin/activate"

# Of how many shards this is one cannot be asked of Slurm: a single task may be submitted again.
exec tensorstate capture "$model" "$data" -o "$run" \
    --shard "$SLURM_ARRAY_TASK_ID/$shards" --resume "$@"
