"""Fine-tuning: rows tokenized as far as the budget reads, steps cut into micro-batches, one module an engine.

It may use core, distributed and modeling.
"""
