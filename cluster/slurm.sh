#!/usr/bin/env bash
#SBATCH --job-name=sft
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=sft-%A_%a.log
# Experiments on a Slurm cluster, one a job of an array, each on a GPU of its own:
#
#   sbatch --array=1-2 cluster/slurm.sh experiments.txt "$(git rev-parse HEAD)"
#
# Line N of experiments.txt is the N-th job's: a name, then options of `dvc exp run`, quoted as in a shell:
#
#   lr-1e-3 -S train.learning_rate=1e-3
#   epoch   -S 'train.budget=1 epoch' -S train.seed=2
#
# Submit it in your clone, on a file system that the nodes share, with .venv made (make install), the commit's
# results pushed (make push) and a DVC remote that the nodes reach. Each job works in a clone beside yours; the
# experiment comes into yours, its data by `make pull`. A job that is pre-empted is queued again and goes on from its
# last checkpoint; for one that has run out of time, submit its number again: --array=2.
set -euo pipefail

file=$1 commit=$2
cd "$SLURM_SUBMIT_DIR"
mapfile -d '' words < <(sed -n "${SLURM_ARRAY_TASK_ID}p" "$file" | xargs printf '%s\0')
if [ "${#words[@]}" -lt 1 ] || [ -z "${words[0]}" ]; then
  echo "error: $file has no experiment in line $SLURM_ARRAY_TASK_ID." >&2
  exit 2
fi
name=${words[0]}
export SFT_VENV=$SLURM_SUBMIT_DIR/.venv
script=$(mktemp)
trap 'rm -f "$script"' EXIT
git show "$commit:cluster/experiment.sh" > "$script"

# By srun, so that Slurm's SIGTERM reaches the stage, which keeps a checkpoint; it does not know --cpus-per-task by
# itself. One training on several hosts: docs/several-gpus.md.
srun --ntasks=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" bash "$script" \
  "$SLURM_SUBMIT_DIR" "$commit" "$SLURM_SUBMIT_DIR-$name" "${words[@]}"
