"""Demonstrates a pipeline on a real Kubernetes: ``python -m tests.demo``."""
