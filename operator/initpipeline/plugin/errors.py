"""Defines the errors that a user sees, and the exit codes that a script sees.

    PluginError             1  the command failed
      NotUsableError        3  kubeconfig, connection, RBAC or CRD
        NoAnswerError       3  no response; a later request may succeed
      NotFoundError         4  no such InitPipeline, step or run
      RefusedError          5  the API server would refuse an object
      TimedOutError       124  same code as timeout(1)

argparse exits with 2 on invalid usage. Each message is one line and includes what to do.
"""

from typing import ClassVar


class PluginError(Exception):
    """The command failed. The plugin prints the message as one line on stderr and exits."""

    code: ClassVar[int] = 1


class NotUsableError(PluginError):
    """The cluster cannot be used: no kubeconfig, no response, no permission or no CRD."""

    code = 3


class NoAnswerError(NotUsableError):
    """The API server does not respond, or its response was cut off. A later request may succeed."""


class NotFoundError(PluginError):
    """The InitPipeline, step or run does not exist."""

    code = 4


class RefusedError(PluginError):
    """The API server would refuse an object: it is invalid, or admission refuses it."""

    code = 5


class TimedOutError(PluginError):
    """The timeout passed before the awaited state was reached."""

    code = 124
