"""The library that the pipeline's stages call; it knows nothing of DVC."""
