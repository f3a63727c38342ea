"""The command lines: the operator's own, and the kubectl plugin, which loads none of it."""
