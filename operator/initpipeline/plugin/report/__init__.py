"""Computes what the plugin reports, as values. Pure: no I/O, no clock, no rendering.

Each module takes an InitPipeline, its Pod and the current time, and returns values that ``views``
renders. ``steps`` has the steps of the current run, ``history`` the recorded runs, ``summary`` the
state and what happens next in one line each. ``explain`` has the report of that subcommand, with
``forecast`` and ``remedies``. ``plan`` has the effect of a change, ``chart`` the bars of a
timeline, ``wait_results`` the end of a wait, ``log_parts`` the logs that can be read.
"""
