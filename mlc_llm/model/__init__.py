"""Architectures: a config, a model and a weight map each, in a file for each family.

Nothing here imports TVM before a model is compiled: what a model is must be known without its
compiler.
"""
