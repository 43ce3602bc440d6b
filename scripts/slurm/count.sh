#!/usr/bin/env bash
# A Dask cluster within a job counts a run: one scheduler, and a worker for each task of the job.
#
#     sbatch --ntasks=16 scripts/slurm/count.sh RUN
#
#SBATCH --job-name=tensorstate-count
#SBATCH --output=%x-%j.log
#SBATCH --ntasks=2
#SBATCH --cpus-per-task=1
#SBATCH --mem-per-cpu=2G
#SBATCH --time=01:00:00
set -euo pipefail
run=$1

# Slurm runs a copy of this file in the folder that it was submitted from.
source "${TENSORSTATE_ENV:-.venv}/bin/activate"

# A folder that all nodes reach: for the scheduler's address, and for what memory does not hold.
folder=$(mktemp -d "$PWD/tensorstate-count-$SLURM_JOB_ID-XXXXXX")
file=$folder/scheduler.json
export DASK_TENSORSTATE__SPILL="${DASK_TENSORSTATE__SPILL:-$folder}"

# srun does not take these from the job by itself.
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
memory="$((SLURM_MEM_PER_CPU * SLURM_CPUS_PER_TASK)) MiB"

steps=()
finish() {
    kill "${steps[@]}" 2>/dev/null || true
    wait
    rm -rf "$folder"
}
trap finish EXIT

# Whoever reaches a scheduler's port can run programs as you. On nodes that strangers reach as well,
# let Dask use TLS (distributed.comm.tls in its configuration).
srun --overlap --ntasks=1 --nodes=1 dask scheduler --host "$(hostname)" --port 0 \
    --no-dashboard --dashboard-address 127.0.0.1:0 --scheduler-file "$file" &
steps+=($!)

srun --overlap --ntasks="$SLURM_NTASKS" bash -c 'exec dask worker --host "$(hostname)" "$@"' worker \
    --scheduler-file "$file" --nthreads "$SLURM_CPUS_PER_TASK" --memory-limit "$memory" \
    --local-directory "${TMPDIR:-/tmp}" --death-timeout 60 \
    --no-dashboard --dashboard-address 127.0.0.1:0 &
steps+=($!)

tensorstate count --json --quiet --scheduler "$file" "$run"
