"""The kubectl plugin, ``kubectl initpipeline``.

Read it in this order: ``main`` parses the command line and calls a subcommand. ``commands`` has one
module for each subcommand, and ``options`` what they share. ``session`` gives them the options, the
output and ``cluster``, the access to the API server. ``report`` computes what is shown, ``views``
renders it. ``dashboard`` serves the live page from the same reports. ``wrap`` converts workloads
offline. Of the operator, the plugin imports only ``api`` and ``core``.

How a subcommand is built:
1. ``commands/VERB.py`` has ``add``, which defines help and arguments, and ``run``, the handler.
2. ``run`` reads from ``session.cluster``, calls ``report`` and prints a view by ``session.show``.
3. It returns the exit code, or raises a PluginError, which ``main`` prints as one line.
4. ``main.SUBCOMMANDS`` lists the module. docs/plugin.md documents it.
"""
