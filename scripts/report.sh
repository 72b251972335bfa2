#!/usr/bin/env bash
# What a branch changes in params and metrics against another revision, as Markdown for a pull request.
#
#   scripts/report.sh BASE [HEAD]      BASE: a branch, tag or commit; HEAD: likewise, else the workspace
#
# Needs Git and DVC, no data, no cache and no GPU: params.yaml and metrics/ are in Git.
set -euo pipefail
base=${1:?usage: scripts/report.sh BASE [HEAD]}
head=${2:-}
export DVC_NO_ANALYTICS=1
cd "$(git rev-parse --show-toplevel)"
for revision in "$base" $head; do
  git rev-parse --verify --quiet "$revision^{commit}" >/dev/null || {
    echo "error: $revision: no such revision. Fetch it first: git fetch origin" >&2
    exit 1
  }
done

# A table of DVC's, or a word where nothing differs. What only tells of the run (time, memory, machine)
# goes below a fold, so that it does not hide the results.
cost='[ .](seconds|tokens_per_second|model_flop_utilisation|peak_memory_gib|device|versions)[ .]'
table() {
  if [[ $(wc -l <<<"$1") -gt 2 ]]; then printf '%s\n' "$1"; else echo "No changes."; fi
}

# Against the commit where the branch left it: what came to the base since is not this branch's change.
fork=$(git merge-base "$base" "${head:-HEAD}")
params=$(dvc params diff "$fork" $head --md)
metrics=$(dvc metrics diff "$fork" $head --md)

echo "## What this changes against \`$base\`"
echo
echo "### Parameters"
echo
table "$params"
echo
echo "### Metrics"
echo
table "$(grep -vE "$cost" <<<"$metrics" || true)"
echo
echo "<details><summary>Time, memory, machine</summary>"
echo
table "$(head -n 2 <<<"$metrics"; tail -n +3 <<<"$metrics" | grep -E "$cost" || true)"
echo
echo "</details>"

if [[ -z $head ]]; then
  stages=$(dvc stage list --name-only)
  # What DVC tracks under data/raw/ is a part of standardize's input, and a clone may lack it.
  absent=$(git ls-files 'data/raw/*.dvc' | while read -r file; do [[ -e ${file%.dvc} ]] || echo "${file%.dvc}"; done)
  if [[ -n $absent ]]; then stages=$(grep -vx standardize <<<"$stages"); fi
  # A missing cache is no reason to run (--allow-missing), but a stage that would run fails even with --dry
  # where its inputs are missing. So go on after failures, and take what DVC does not call unchanged.
  dry=$(dvc repro --dry --allow-missing --keep-going --downstream $stages 2>&1 || true)
  unchanged=$(sed -nE "s/^Stage '([^']+)' didn't change.*/\1/p" <<<"$dry")
  pending=$(grep -vxF "$unchanged" <<<"$stages" | paste -sd' ' - || true)
  echo
  if [[ -n $pending ]]; then
    echo "**dvc.lock is behind the code or the params: \`dvc repro\` would run $pending and what follows.** The metrics above are not this code's."
  else
    echo "dvc.lock is up to date: the metrics above are this code's."
  fi
  if [[ -n $absent ]]; then
    echo "Not checked: standardize, because this clone lacks $(paste -sd' ' - <<<"$absent")."
  fi
fi
