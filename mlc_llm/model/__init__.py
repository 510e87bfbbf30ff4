"""Architectures: a config, a Relax module and a weight map each.

A family is a package (or, for a variant, a file) whose top level never imports TVM: what a model
is must be known without its compiler. The Relax modules stand in ``module.py`` beside it.
"""
