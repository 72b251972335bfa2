"""Differences of scores: intervals, significance, and the verdict on one adapter against another.

It may use core and tasks.
"""
