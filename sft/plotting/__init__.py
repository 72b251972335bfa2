"""The pipeline's figures and a study's.

It may use core, tasks and statistics.
"""
