"""The benchmark: InitPipelines beside Jobs, on a control plane of its own with fake nodes.

See README.md for the method and how to read the table; ``python -m tests.bench`` runs it.
"""
