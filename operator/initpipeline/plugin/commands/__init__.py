"""Contains the subcommands of the plugin, one module for each."""
