"""The soak: random faults over many pipelines and several replicas, judged from outside.

``schedule`` derives all actions of users and all faults from a seed. ``judge`` knows only what the
API server and the node show: it neither knows the schedule nor reads the operator's memory.
"""
