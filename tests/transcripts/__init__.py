"""The example outputs in docs/plugin.md: recorded on a cluster, and rendered from the recording."""
