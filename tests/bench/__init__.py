"""Compares InitPipelines with Jobs, on a control plane of its own with fake nodes.

README.md describes the method and the table. ``python -m tests.bench`` runs the benchmark.
"""
