"""Checks every reader of objects with generated objects that any user may write: make fuzz."""
