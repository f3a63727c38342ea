"""A real Kubernetes on one bare Linux machine, for tests: no Docker, no image registry.

See README.md for what it makes and how; `Cluster` is the Python API, `python -m tests.cluster` the
command line.
"""
