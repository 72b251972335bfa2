#!/usr/bin/env bash
# Bring an experiment that cluster/ssh_start.sh has started: its commit over SSH, its data by the DVC remote.
#
#   cluster/ssh_fetch.sh HOST NAME
#
# Exits with status 75 where it is still running, so that this waits for it:
#
#   while cluster/ssh_fetch.sh HOST NAME; [ $? = 75 ]; do sleep 60; done
set -euo pipefail

if [ $# != 2 ] || ! [[ $2 =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]]; then
  echo "usage: cluster/ssh_fetch.sh HOST NAME" >&2
  exit 2
fi
host=$1 name=$2
folder=${SFT_FOLDER:-sft-runs}
# shellcheck disable=SC2029  # they are to be expanded here; and quoted, for a shell takes them apart there
ssh "$host" "bash -s -- $(printf '%q ' "$folder" "$name")" <<'THERE'
set -eu
cd "$1"
name=$2
if [ ! -e "$name.log" ]; then
  echo "error: there is no experiment $name here. Start it: cluster/ssh_start.sh" >&2
  exit 1
elif ! flock --nonblock "$name.lock" true; then
  echo "experiment $name: running. Its last line: $(tail -n 1 "$name.log")"
  exit 75
elif [ "$(cat "$name.status" 2> /dev/null)" != 0 ]; then
  tail -n 20 "$name.log" >&2
  echo "error: experiment $name failed or was stopped, see above. Start it again, and it goes on from there." >&2
  exit 1
fi
THERE
repository=$host:$folder/origin.git
mapfile -t experiments < <(git ls-remote "$repository" "refs/exps/*/*/$name" | cut -f 2)
for experiment in "${experiments[@]}"; do
  git fetch --quiet "$repository" "+$experiment:$experiment"
done
python -m scripts.pull
echo "experiment $name: here. dvc exp show has its metrics, and dvc exp apply $name puts it into the workspace."
