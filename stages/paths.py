"""Where the stages' files lie, relative to the repository's root."""

# Files of the user's own, which Git or DVC tracks.
RAW = "data/raw"

BASE = "data/standardized/base.parquet"
EXTRA = "data/standardized/extra.parquet"
EVALUATION = "data/holdout/evaluation.parquet"
MIX = "data/mix.parquet"
REMOVED = "data/removed.parquet"
METRICS_MIX = "metrics/mix.json"
