#!/usr/bin/env bash
# One experiment on the machine that this runs on: from a Git repository and the DVC remote, and back into both.
#
#   cluster/experiment.sh ORIGIN COMMIT CLONE NAME [option of dvc exp run ...]
#
# ORIGIN is a Git repository that this machine can read and write, COMMIT what the experiment begins with, CLONE a
# folder for it alone, made if it is not there: stopped at any moment, the same command goes on from the last
# checkpoint in it. SFT_VENV names a Python environment with the project's packages; without it one is made beside
# CLONE, for all clones there (by make install, again where another commit has other requirements). The DVC remote is
# the one that .dvc/config names, with this machine's credentials. cluster/slurm.sh and cluster/ssh_start.sh call it.
set -euo pipefail

if [ $# -lt 4 ]; then
  echo "usage: cluster/experiment.sh ORIGIN COMMIT CLONE NAME [option of dvc exp run ...]" >&2
  exit 2
fi
origin=$1 commit=$2 clone=$3 name=$4
shift 4
if ! [[ $name =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]]; then
  echo "error: $name: not a name of an experiment. Use letters, digits, dots, hyphens and underscores." >&2
  exit 2
fi

[ -d "$clone/.git" ] || git clone --quiet --no-checkout "$origin" "$clone"
cd "$clone"
git fetch --quiet origin "$commit"
git checkout --quiet --force --detach "$commit"
# Settings and credentials that the user has for this clone only, where ORIGIN is a clone on the same machine.
if [ -f "$origin/.dvc/config.local" ]; then
  cp "$origin/.dvc/config.local" .dvc/config.local
fi

if [ -z "${SFT_VENV:-}" ]; then
  environment=$(dirname "$PWD")/environment
  mkdir -p "$environment"
  exec {lock}> "$environment/.lock"
  flock "$lock"
  for file in Makefile requirements*.txt constraints*.txt; do  # what is the same keeps its time, and is not made anew
    cmp --silent "$file" "$environment/$file" || cp "$file" "$environment"
  done
  make -C "$environment" install
  exec {lock}>&-
  SFT_VENV=$environment/.venv
fi
# shellcheck disable=SC1091  # not there when this is checked
. "$SFT_VENV/bin/activate"

python -m scripts.pull
# An earlier one of this name: what it has in common with this one comes from DVC's run cache.
git for-each-ref --format='delete %(refname)' "refs/exps/*/*/$name" | git update-ref --stdin
python -m scripts.experiment_in_copy --name "$name" "$@"

# Data first, so that whoever sees the experiment can have it.
python -m scripts.push
experiment=$(git for-each-ref --format='%(refname)' "refs/exps/*/*/$name")
git push --quiet --force origin "$experiment:$experiment"
echo "experiment $name: done, in $origin and the DVC remote"
