"""The operator's command line: ``initpipeline run``."""

import argparse
import asyncio
import gc
import sys
from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_settings import SettingsError

from initpipeline import __version__
from initpipeline.runtime import logs, operator
from initpipeline.runtime.errors import OperatorError
from initpipeline.runtime.settings import Settings

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
    run.add_argument("--lease-namespace", metavar="NAME", help=_help("lease_namespace"))
    run.add_argument("--lease-name", metavar="NAME", help=_help("lease_name"))
    run.add_argument("--lease-seconds", metavar="N", help=_help("lease_seconds"))
    run.add_argument("--renew-seconds", metavar="N", help=_help("renew_seconds"))
    run.add_argument("--retry-seconds", metavar="N", help=_help("retry_seconds"))
    run.add_argument("--shards", metavar="N", help=_help("shards"))
    run.add_argument("--standby", metavar="warm|cold", help=_help("standby"))
    run.add_argument(
        "--scheduling-gate", action="store_const", const=True, help=_help("scheduling_gate")
    )
    run.add_argument("--log-tails", metavar="record|omit", help=_help("log_tails"))
    run.add_argument("--identity", metavar="NAME", help=_help("identity"))
    run.add_argument("--probe-address", metavar="HOST:PORT", help=_help("probe_address"))
    run.add_argument("--metrics-address", metavar="HOST:PORT", help=_help("metrics_address"))
    run.add_argument("--log-format", metavar="auto|plain|json", help=_help("log_format"))
    run.add_argument("--log-level", metavar="LEVEL", help=_help("log_level"))
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
    option = "namespace" if setting == "namespaces" else setting.replace("_", "-")
    message = problem["msg"].removeprefix("Value error, ")
    return f"--{option} (or INITPIPELINE_{setting.upper()}): {message}, not {problem['input']!r}"


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
