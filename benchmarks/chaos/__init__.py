"""Real runs of the pipeline, killed at random moments and run again: is anything lost, stale or left over?"""
