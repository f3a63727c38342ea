"""Measures how long a new pipeline waits for its Pod while another namespace is busy.

``make fairness`` starts an API server and the operator. No kubelet runs: the time from the creation
of a pipeline to that of its Pod needs none. The results are in docs/faults.md.
"""
