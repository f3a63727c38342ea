"""What a real kubelet wrote: recorded from the test cluster, kept as JSON, compared with the model.

``python -m tests.traces record`` records all scenarios anew, some of them by name; six minutes.
"""
