#!/usr/bin/env bash
# Start an experiment on another machine by SSH; it runs on when the connection ends.
#
#   cluster/ssh_start.sh HOST NAME [option of dvc exp run ...]
#   cluster/ssh_fetch.sh HOST NAME        # is it done? then bring it here
#
# Sends the commit that is checked out over SSH, and the data by the DVC remote, which HOST must reach with
# credentials of its own. HOST needs Git, make, flock and Python 3.11 or 3.12. Everything there is in one folder,
# $SFT_FOLDER (sft-runs, in the home folder), with one Python environment, or the one that $SFT_VENV names there.
# With SFT_DEVICES=0,1 experiments that are started one after another have a GPU each. The same command goes on with
# an experiment that was stopped.
set -euo pipefail

if [ $# -lt 2 ] || ! [[ $2 =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]]; then
  echo "usage: cluster/ssh_start.sh HOST NAME [option of dvc exp run ...]; a NAME has letters, digits, . _ -" >&2
  exit 2
fi
host=$1 name=$2
shift 2
folder=${SFT_FOLDER:-sft-runs}
if ! git diff --quiet HEAD; then
  echo "error: the workspace has changes that are in no commit, and $host gets commits only. Commit them first." >&2
  exit 1
fi
commit=$(git rev-parse HEAD)

# Runs the script that comes by standard input in the folder there, with the other arguments as $1, $2, ...
there() {
  # shellcheck disable=SC2029  # they are to be expanded here; and quoted, for a shell takes them apart there
  ssh "$host" "bash -s -- $(printf '%q ' "$@")"
}
there "$folder" "$name" <<'THERE'
set -eu
mkdir -p "$1" && cd "$1"
git init --quiet --bare origin.git
flock --nonblock "$2.lock" true || { echo "error: experiment $2 is running there." >&2; exit 1; }
THERE
python -m scripts.push
git push --quiet --force "$host:$folder/origin.git" "$commit:refs/heads/$name"
there "$folder" "$name" "$commit" "${SFT_VENV:-}" "${SFT_DEVICES:-}" "$@" <<'THERE'
set -eu
cd "$1"
name=$2 commit=$3
[ -z "$4" ] || export SFT_VENV="$4"
[ -z "$5" ] || export SFT_DEVICES="$5"
shift 5
git --git-dir=origin.git show "$commit:cluster/experiment.sh" > "$name.sh"
rm -f "$name.status"
setsid nohup flock --nonblock "$name.lock" bash -c 'bash "$0.sh" "$@"; echo $? > "$0.status"' \
  "$name" "$PWD/origin.git" "$commit" "$PWD/$name" "$name" "$@" > "$name.log" 2>&1 < /dev/null &
THERE
echo "experiment $name: started on $host, output in $folder/$name.log. Then: cluster/ssh_fetch.sh $host $name"
