"""The mix: which rows are its members, and the filters of the pool that they are chosen from.

It may use core only; what filters compare with is handed in.
"""
