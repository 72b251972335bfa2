"""Several processes, one a device, that share a stage's work: agreeing, adding up, and who does what.

It may use core only.
"""
