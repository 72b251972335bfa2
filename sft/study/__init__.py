"""Comparisons of trainings: a study's plan, its results, and the report.

It may use core, tasks, statistics and evaluation.
"""
