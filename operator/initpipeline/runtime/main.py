"""``initpipeline``: start the operator."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_settings import SettingsError

from initpipeline import __version__
from initpipeline.runtime import logs, operator
from initpipeline.runtime.errors import OperatorError
from initpipeline.runtime.settings import Settings

_EPILOG = """\
The cluster is that of $KUBECONFIG, else of the service account of the Pod that this runs in, else
of ~/.kube/config. Each option can also be set in the environment: --sweep-seconds as
INITPIPELINE_SWEEP_SECONDS, --namespace as INITPIPELINE_NAMESPACES='["a", "b"]'.

examples:
  initpipeline run                          serve all namespaces of the current context
  initpipeline run --namespace team-a       serve one
  KUBECONFIG=dev.yaml initpipeline run --log-level debug
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0: a clean stop; 1: a cluster that cannot be served; 2: bad input."""
    options = vars(_parser().parse_args(arguments))
    options.pop("command")
    try:
        settings = Settings(**{name: value for name, value in options.items() if value is not None})
    except (ValidationError, SettingsError) as error:
        return _fail(_first_problem(error), 2)
    logs.configure(settings.log_format, settings.log_level)
    try:
        asyncio.run(operator.run(settings))
    except OperatorError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="initpipeline",
        description="A Kubernetes operator that runs a Pod's init containers as a pipeline.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="start the operator in the foreground",
        description="Start the operator in the foreground. It ends at SIGTERM or Ctrl-C.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument(
        "--namespace",
        "-n",
        dest="namespaces",
        action="append",
        metavar="NAME",
        help=_help("namespaces") + " May be given several times.",
    )
    run.add_argument("--workers", metavar="N", help=_help("workers"))
    run.add_argument("--sweep-seconds", metavar="N", help=_help("sweep_seconds"))
    run.add_argument(
        "--request-timeout-seconds", metavar="N", help=_help("request_timeout_seconds")
    )
    run.add_argument("--liveness-endpoint", metavar="URL", help=_help("liveness_endpoint"))
    run.add_argument("--log-format", metavar="auto|plain|json", help=_help("log_format"))
    run.add_argument("--log-level", metavar="LEVEL", help=_help("log_level"))
    return parser


def _help(setting: str) -> str:
    field = Settings.model_fields[setting]
    default = f" Default: {field.default}." if field.default else ""
    return f"{field.description}{default}"


def _first_problem(error: ValidationError | SettingsError) -> str:
    """In the words of the command line: which setting, what is wrong with it."""
    if isinstance(error, SettingsError):
        return f'{error}: in the environment, several values are JSON, such as \'["a", "b"]\''
    problem = error.errors()[0]
    setting = str(problem["loc"][0])
    option = "namespace" if setting == "namespaces" else setting.replace("_", "-")
    message = problem["msg"].removeprefix("Value error, ")
    return f"--{option} (or INITPIPELINE_{setting.upper()}): {message}, not {problem['input']!r}"


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
