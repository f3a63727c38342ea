"""Conversion of workloads to InitPipelines. Offline: it reads and writes manifests only."""
