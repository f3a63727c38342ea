"""A real Kubernetes on one bare Linux machine, for tests: no Docker, no image registry.

README.md describes what it creates and how. `Cluster` is the Python API, `python -m tests.cluster`
the command line.
"""
