"""What can go wrong for the person at the terminal, and the exit code that a script sees.

    PluginError             1  it failed, or was given up
      NotUsableError        3  the cluster, the kubeconfig or a permission
        NoAnswerError       3  no answer; a later request may succeed
      NotFoundError         4  no such InitPipeline, step, or run
      RefusedError          5  the API server would refuse an object
      TimedOutError       124  as timeout(1)

2 is argparse's, for a usage that is not understood. Each message is one line that says what to do.
"""

from typing import ClassVar


class PluginError(Exception):
    """Ends the command with one line on stderr."""

    code: ClassVar[int] = 1


class NotUsableError(PluginError):
    """The cluster cannot be used: no kubeconfig, no answer, no permission, no CRD."""

    code = 3


class NoAnswerError(NotUsableError):
    """The cluster does not answer, or its answer was cut off. A later request may succeed."""


class NotFoundError(PluginError):
    """What was named is not there."""

    code = 4


class RefusedError(PluginError):
    """The API server would refuse an object: it is invalid, or admission refuses it."""

    code = 5


class TimedOutError(PluginError):
    """What was waited for did not come in time."""

    code = 124
