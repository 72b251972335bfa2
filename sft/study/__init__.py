"""Comparisons of trainings: a study's plan, its results, intervals and significance, and the report.

It may use core, tasks and evaluation.
"""
