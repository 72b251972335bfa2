"""A trained adapter as files that other programs use: merged safetensors, GGUF, an Ollama Modelfile.

It may use core, tasks, statistics, modeling, generation and evaluation.
"""
