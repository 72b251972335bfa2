"""The pipeline's figures and a study's.

It may use core and tasks.
"""
