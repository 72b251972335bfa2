"""Where the stages' files lie: their deps and outs in dvc.yaml, relative to the repository's root.

Every stage depends on this module, so what no later stage reads, the figures, is named in stages/plot.py: a
new figure re-runs no training.
"""

# Files of the user's own, which Git or DVC tracks.
RAW = "data/raw"

# Of check: all other stages depend on it, and none reads it.
PARAMS_CHECKED = "data/params-checked.txt"

# Folders of shards: sft/core/shards.py.
BASE = "data/standardized/base"
EXTRA = "data/standardized/extra"
REJECTS = "data/standardized/rejects.jsonl"
EVALUATION = "data/holdout/evaluation.parquet"
VALIDATION = "data/holdout/validation.parquet"
MIX = "data/mix"
REMOVED = "data/removed.parquet"
ADAPTER = "models/adapter"
CARD = "models/README.md"
BASELINE_ANSWERS = "data/answers/baseline.jsonl"
ANSWERS = "data/answers/evaluate.jsonl"

METRICS_STANDARDIZE = "metrics/standardize.json"
METRICS_MIX = "metrics/mix.json"
METRICS_TRAIN = "metrics/train.json"
METRICS_BASELINE = "metrics/baseline.json"
METRICS_EVALUATE = "metrics/evaluate.json"

# What describes a run: in Git, and read by no stage but card, on which none depends, since times differ from
# run to run.
PROVENANCE_STANDARDIZE = "provenance/standardize.json"
PROVENANCE_MIX = "provenance/mix.json"
PROVENANCE_TRAIN = "provenance/train.json"
PROVENANCE_BASELINE = "provenance/baseline.json"
PROVENANCE_EVALUATE = "provenance/evaluate.json"

# By example, without texts: what any two commits are compared by.
SCORES_BASELINE = "scores/baseline.csv"
SCORES_EVALUATE = "scores/evaluate.csv"

TRAIN_LOSS = "plots/train_loss.csv"
VALIDATION_LOSS = "plots/validation_loss.csv"
GAIN = "plots/gain.csv"
