"""Computes what the plugin reports, as values. Pure: no I/O, no clock, no rendering.

Each module takes an InitPipeline, its Pod and the current time, and returns values that ``views``
renders: ``steps`` the steps of the current run, ``summary`` the state and what happens next in one
line each, ``report`` all that ``explain`` shows (with ``forecast`` and ``remedies``), ``plan`` the
effect of a change, ``wait_results`` the end of a wait, ``log_parts`` the logs that can be read.
"""
