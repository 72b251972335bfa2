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
git rev-parse --verify --quiet "$base^{commit}" >/dev/null || {
  echo "error: $base: no such revision. Fetch it first: git fetch origin" >&2
  exit 1
}

# A table of DVC's, or a word where nothing differs. What only tells of the run (time, memory, machine)
# goes below a fold, so that it does not hide the results.
cost='seconds|tokens_per_second|peak_memory|device|versions|resolved'
table() {
  if [[ $(wc -l <<<"$1") -gt 2 ]]; then printf '%s\n' "$1"; else echo "No changes."; fi
}

params=$(dvc params diff "$base" $head --md)
metrics=$(dvc metrics diff "$base" $head --md)

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
  # With --dry, DVC exits 0 whatever would run; and a missing cache is no reason to run.
  pending=$(dvc repro --dry --allow-missing 2>&1 | sed -nE "s/^Running stage '([^']+)'.*/\1/p" | paste -sd' ' -)
  echo
  if [[ -n $pending ]]; then
    echo "**dvc.lock is behind the code or the params: \`dvc repro\` would run $pending.** The metrics above are not this code's."
  else
    echo "dvc.lock is up to date: the metrics above are this code's."
  fi
fi
