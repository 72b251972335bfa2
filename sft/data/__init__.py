"""Sources read into standardized rows, and the items that are held out for evaluation and validation.

It may use core, fetch and tasks.
"""
