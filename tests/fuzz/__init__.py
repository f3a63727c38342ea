"""Checks all code that reads API objects with generated, hostile objects: make fuzz."""
