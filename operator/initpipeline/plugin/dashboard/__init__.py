"""Serves the live page of ``kubectl initpipeline dashboard`` on the loopback interface.

Only this package imports aiohttp and Jinja, and only the subcommand imports this package.
"""
