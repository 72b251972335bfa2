"""Texts generated from prompts, with sampling noise that does not depend on the batch.

It may use core, distributed and modeling.
"""
