"""``kubectl_complete-initpipeline``: shell completion of the plugin's command line.

kubectl runs this program with the arguments so far. The last argument is the one to complete. The
program prints one proposal per line, and then a directive, in the format of Cobra. It prints no
errors: if the cluster does not answer, there are no proposals.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from initpipeline.core.containers import init_containers
from initpipeline.core.text import is_plain
from initpipeline.plugin import signals
from initpipeline.plugin.cluster import kubeconfig
from initpipeline.plugin.cluster.client import ClusterClient
from initpipeline.plugin.errors import PluginError
from initpipeline.plugin.main import build, command_position
from initpipeline.plugin.options import VALUED
from initpipeline.plugin.terminal import discard_stdout, prepare_streams

NO_FILES: Final = 4
"""Cobra's ShellCompDirectiveNoFileComp: the shell does not propose files."""
FILES: Final = 0
"""Cobra's ShellCompDirectiveDefault: the shell proposes files if there are no proposals."""

_OPTION: Final = re.compile(r"(?<![\w-])(--?[a-zA-Z][\w-]*)")
_CHOICES: Final = re.compile(r"\{([a-z,]+)\}")

Source = Callable[[argparse.Namespace], list[str]]
"""Returns proposals, given the options that have been typed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the proposals for the last argument. Returns 0, even without proposals."""
    if arguments is None:
        signals.exit_by_exception()
    prepare_streams()
    typed = list(sys.argv[1:] if arguments is None else arguments) or [""]
    proposals, directive = complete(typed)
    try:
        for line in (*proposals, f":{directive}"):
            print(line, flush=True)
    except OSError:
        discard_stdout()
    return 0


def complete(arguments: Sequence[str]) -> tuple[list[str], int]:
    """Returns the proposals for the last argument, and the directive."""
    *before, last = arguments
    _, commands = build()
    position = command_position(before, list(commands))
    source, directive = _source(before, last, position, commands)
    with tempfile.TemporaryDirectory(prefix="kubectl-initpipeline-") as keys:
        is_value = before[-1:] and before[-1] in VALUED
        options = _parse_options(before[:-1] if is_value else before)
        options.keys = Path(keys)
        try:
            proposals = source(options)
        except PluginError:
            proposals = []
    return sorted(
        {one for one in proposals if one.startswith(last) and _is_printable_line(one)}
    ), directive


def _is_printable_line(proposal: str) -> bool:
    """Returns whether the proposal is one line without control characters."""
    return is_plain(proposal) and proposal.isprintable()


def _source(
    before: Sequence[str],
    last: str,
    position: int | None,
    commands: dict[str, argparse.ArgumentParser],
) -> tuple[Source, int]:
    """Returns the source of the proposals for the last argument, and the directive."""
    command = commands[before[position]] if position is not None else None
    option = before[-1] if before and before[-1].startswith("-") else ""
    if option in ("-n", "--namespace"):
        return _namespaces, NO_FILES
    if option == "--context":
        return lambda options: kubeconfig.contexts(options.kubeconfig), NO_FILES
    if option == "--kubeconfig":
        return _nothing, FILES
    if last.startswith("-") and command is not None:
        return lambda _: _OPTION.findall(command.format_help().partition("options:")[2]), NO_FILES
    if option in ("-o", "--output") and command is not None:
        choices = _CHOICES.search(command.format_help().partition("--output")[2])
        return lambda _: choices[1].split(",") if choices else [], NO_FILES
    if command is None or position is None:
        return lambda _: list(commands), NO_FILES
    return _positional(command, _positionals(before[position + 1 :]))


def _positional(command: argparse.ArgumentParser, given: Sequence[str]) -> tuple[Source, int]:
    kinds = command.get_default("completes") or ()
    if not kinds:
        return _nothing, NO_FILES
    kind = kinds[min(len(given), len(kinds) - 1)]
    if kind == "file":
        return _nothing, FILES
    if kind == "step":
        return lambda options: _steps(options, given[0]), NO_FILES
    return _pipelines, NO_FILES


def _positionals(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments without options and the values of options."""
    pairs = zip(["", *arguments], arguments, strict=False)
    return [one for before, one in pairs if not one.startswith("-") and before not in VALUED]


def _parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the options for cluster and namespace that have been typed."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("-n", "--namespace")
    parser.add_argument("-A", "--all-namespaces", action="store_true")
    parser.add_argument("--context")
    parser.add_argument("--kubeconfig")
    try:
        return parser.parse_known_args(arguments)[0]
    except argparse.ArgumentError:
        return parser.parse_known_args([])[0]


def _cluster(options: argparse.Namespace) -> ClusterClient:
    return ClusterClient(kubeconfig.load(options.kubeconfig, options.context), options.keys)


def _nothing(_: argparse.Namespace) -> list[str]:
    return []


def _namespaces(options: argparse.Namespace) -> list[str]:
    return _cluster(options).list_namespaces()


def _pipelines(options: argparse.Namespace) -> list[str]:
    cluster = _cluster(options)
    namespace = None if options.all_namespaces else options.namespace or cluster.namespace
    return [item["metadata"]["name"] for item in cluster.list_pipelines(namespace)]


def _steps(options: argparse.Namespace, name: str) -> list[str]:
    cluster = _cluster(options)
    namespace = options.namespace or cluster.namespace
    spec = cluster.get_pipeline(namespace, name)["spec"]["template"]["spec"]
    pod = cluster.find_pod(namespace, name) or {"spec": {}}
    specs = (pod["spec"], spec)  # The Pod may have containers that admission injected.
    containers = [one["name"] for spec in specs for one in spec.get("containers") or ()]
    return [one.name for spec in specs for one in init_containers(spec)] + containers
