"""Argo CD's Lua engine and kstatus, run on InitPipelines, and the program that records them."""
