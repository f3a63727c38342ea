"""The operator's command line: ``initpipeline run``."""

import argparse
import asyncio
import gc
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import ValidationError
from pydantic_settings import SettingsError

from initpipeline import __version__
from initpipeline.runtime import logs, operator
from initpipeline.runtime.errors import OperatorError
from initpipeline.runtime.settings import Settings, option, variable

_EPILOG = """\
The cluster is that of $KUBECONFIG, or else of the Pod's service account, or else of ~/.kube/config.
Each option can also be set in the environment: --sweep-seconds as INITPIPELINE_SWEEP_SECONDS,
--namespace as INITPIPELINE_NAMESPACES='["a", "b"]'.

examples:
  # Watch all namespaces of the current context
  initpipeline run

  # Watch one namespace
  initpipeline run --namespace team-a

  # Use another kubeconfig, and log more
  KUBECONFIG=dev.yaml initpipeline run --log-level debug
"""


_VALUES: Final[Mapping[str, str | None]] = {
    "workers": "N",
    "sweep_seconds": "N",
    "request_timeout_seconds": "N",
    "lease_namespace": "NAME",
    "lease_name": "NAME",
    "lease_seconds": "N",
    "renew_seconds": "N",
    "retry_seconds": "N",
    "shards": "N",
    "standby": "warm|cold",
    "scheduling_gate": None,
    "log_tails": "record|omit",
    "identity": "NAME",
    "probe_address": "HOST:PORT",
    "metrics_address": "HOST:PORT",
    "log_format": "auto|plain|json",
    "log_level": "LEVEL",
}
"""The settings besides the namespaces, in the order of --help, with what it shows for the option's
value. None: the option has no value."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code.

    0: stopped by SIGTERM or Ctrl-C; 1: the operator cannot work with the cluster; 2: invalid usage;
    130: stopped by Ctrl-C before it had started.
    """
    options = vars(_parser().parse_args(arguments))
    options.pop("command")
    try:
        settings = Settings(**{name: value for name, value in options.items() if value is not None})
    except (ValidationError, SettingsError) as error:
        return _fail(_first_problem(error), 2)
    logs.configure(settings.log_format, settings.log_level)
    _collect_garbage_less_often()
    try:
        asyncio.run(operator.run(settings))
    except OperatorError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return 130
    return 0


def _collect_garbage_less_often() -> None:
    """Reduce the CPU of the garbage collector.

    Parsed JSON consists of many objects without cycles. With Python's defaults, the collector
    searches them for cycles again and again. That takes 16 % of the CPU of a first list of 10,000
    pipelines. With these settings it takes 3 %, and the process needs the same memory.
    """
    gc.collect()
    gc.freeze()  # Modules and classes live as long as the process.
    gc.set_threshold(10_000, 10, 10)


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
        description="Start the operator in the foreground. SIGTERM or Ctrl-C stops it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument(
        option("namespaces"),
        "-n",
        dest="namespaces",
        action="append",
        metavar="NAME",
        help=_help("namespaces") + " May be given several times.",
    )
    for setting, value in _VALUES.items():
        if value is None:
            run.add_argument(option(setting), action="store_const", const=True, help=_help(setting))
        else:
            run.add_argument(option(setting), metavar=value, help=_help(setting))
    return parser


def _help(setting: str) -> str:
    field = Settings.model_fields[setting]
    default = f" Default: {field.default}." if field.default else ""
    return f"{field.description}{default}"


def _first_problem(error: ValidationError | SettingsError) -> str:
    """Returns one line: the option and its variable, and what is wrong with the value."""
    if isinstance(error, SettingsError):
        return f'{error}: in the environment, set a JSON list, such as \'["a", "b"]\''
    problem = error.errors()[0]
    setting = str(problem["loc"][0])
    message = problem["msg"].removeprefix("Value error, ")
    name = f"{option(setting)} (or {variable(setting)})"
    return f"{name}: {message}, not {problem['input']!r}"


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
