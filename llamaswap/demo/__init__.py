"""Toy model servers: pure Python, no model files, up in a fraction of a second.

``python -m llamaswap.demo`` answers like llama-server, with sentences from a chain of words. Load
time and speed are settable, so that swaps can be watched without a GPU. Nothing here imports another
part of llamaswap.
"""
