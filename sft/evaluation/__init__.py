"""Scores of a model on the tasks: answers, the metrics of answers, and their summary.

It may use core, tasks, distributed, statistics, generation and modeling.
"""
