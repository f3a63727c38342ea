"""Renders reports for users and programs. Pure: no I/O, no clock.

Each subcommand with output has a module of its own. A function that returns a rich renderable or
text is for users. ``data`` returns the content of -o json and yaml. ``styles`` has the colours,
``axis`` the positions on the time axis of ``timeline``, which is drawn as text or as ``svg``.
"""
