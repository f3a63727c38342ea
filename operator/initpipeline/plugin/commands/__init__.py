"""The subcommands of the plugin: one module for each verb."""
