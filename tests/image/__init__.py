"""Builds the operator's container image without access to an image registry."""
