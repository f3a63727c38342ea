"""Record the Pod statuses that a real kubelet reports. Tests compare the model kubelet with them.

``python -m tests.traces record [SCENARIO ...]`` records some scenarios, or all in six minutes.
"""
