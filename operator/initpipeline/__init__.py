"""InitPipeline: a Pod's init containers as a pipeline with truthful status, re-runs and history."""

__version__ = "0.1.0"
