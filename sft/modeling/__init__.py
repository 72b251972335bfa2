"""The base model, its tokenizer and chat template, the adapter, packed rows and attention over them.

It may use core and fetch.
"""
