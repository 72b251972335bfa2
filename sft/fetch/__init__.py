"""Fetching what a source or model reference names: from the hub, from a package index, into one cache.

It may use core only.
"""
