"""The evaluation tasks: one record a task, filled from params.

It may use core only, and training must not use it: a new task re-runs no training.
"""
