"""The pipeline's stages: one plain script each, run as `python -m stages.NAME` in the repository's root."""
