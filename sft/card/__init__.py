"""The model card: what the adapter is, what it was trained on, what it scores, and what it is not good for.

It may use core, fetch, tasks and statistics.
"""
