"""Upgrades and downgrades of a running installation, judged from what the API server shows.

``versions`` makes the operators: one of an earlier commit, the present one, and a later one. The
later one has values, fields and a Kubernetes schema that the present one does not know. ``states``
has the pipelines, ``upgraded`` keeps them in their states, and ``judge`` compares them before and
after.
"""
