"""``kubectl_complete-initpipeline``: what kubectl asks when TAB is pressed behind the plugin.

kubectl runs it with the words so far, the last of which is the one to be completed, and reads a
proposal a line and then a directive, as Cobra's completions are. It must be quick and quiet: where
the cluster does not answer, it proposes nothing.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from initpipeline.core.facts import init_containers
from initpipeline.core.text import is_plain
from initpipeline.plugin.cluster import kubeconfig
from initpipeline.plugin.cluster.client import ClusterClient
from initpipeline.plugin.errors import PluginError
from initpipeline.plugin.main import build, command_position
from initpipeline.plugin.options import VALUED
from initpipeline.plugin.terminal import discard_stdout, prepare_streams

NO_FILES: Final = 4
"""Cobra's ShellCompDirectiveNoFileComp."""
FILES: Final = 0

_OPTION: Final = re.compile(r"(?<![\w-])(--?[a-zA-Z][\w-]*)")
_CHOICES: Final = re.compile(r"\{([a-z,]+)\}")

Source = Callable[[argparse.Namespace], list[str]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Always 0: what cannot be completed is not."""
    prepare_streams()
    words = list(sys.argv[1:] if arguments is None else arguments) or [""]
    found, directive = complete(words)
    try:
        for line in (*found, f":{directive}"):
            print(line, flush=True)
    except OSError:
        discard_stdout()
    return 0


def complete(words: Sequence[str]) -> tuple[list[str], int]:
    """Proposals for the last word, and the directive."""
    *before, last = words
    _, commands = build()
    position = command_position(before, list(commands))
    source, directive = _source(before, last, position, commands)
    with tempfile.TemporaryDirectory(prefix="kubectl-initpipeline-") as keys:
        asked = before[-1:] and before[-1] in VALUED  # Its value is what is being typed.
        where = _where(before[:-1] if asked else before)
        where.keys = Path(keys)
        try:
            proposals = source(where)
        except PluginError:
            proposals = []
    return sorted({one for one in proposals if one.startswith(last) and _is_word(one)}), directive


def _is_word(proposal: str) -> bool:
    """Returns whether the proposal is one line without control characters."""
    return is_plain(proposal) and proposal.isprintable()


def _source(
    before: Sequence[str],
    last: str,
    position: int | None,
    commands: dict[str, argparse.ArgumentParser],
) -> tuple[Source, int]:
    command = commands[before[position]] if position is not None else None
    option = before[-1] if before and before[-1].startswith("-") else ""
    if option in ("-n", "--namespace"):
        return _namespaces, NO_FILES
    if option == "--context":
        return lambda where: kubeconfig.contexts(where.kubeconfig), NO_FILES
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
        return lambda where: _steps(where, given[0]), NO_FILES
    return _pipelines, NO_FILES


def _positionals(words: Sequence[str]) -> list[str]:
    """Without options and the values of those that all subcommands have."""
    pairs = zip(["", *words], words, strict=False)
    return [word for before, word in pairs if not word.startswith("-") and before not in VALUED]


def _where(words: Sequence[str]) -> argparse.Namespace:
    """Cluster and namespace, as far as they have been typed."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("-n", "--namespace")
    parser.add_argument("-A", "--all-namespaces", action="store_true")
    parser.add_argument("--context")
    parser.add_argument("--kubeconfig")
    try:
        return parser.parse_known_args(words)[0]
    except argparse.ArgumentError:
        return parser.parse_known_args([])[0]


def _cluster(where: argparse.Namespace) -> ClusterClient:
    return ClusterClient(kubeconfig.load(where.kubeconfig, where.context), where.keys)


def _nothing(_: argparse.Namespace) -> list[str]:
    return []


def _namespaces(where: argparse.Namespace) -> list[str]:
    return _cluster(where).list_namespaces()


def _pipelines(where: argparse.Namespace) -> list[str]:
    cluster = _cluster(where)
    namespace = None if where.all_namespaces else where.namespace or cluster.namespace
    return [item["metadata"]["name"] for item in cluster.list_pipelines(namespace)]


def _steps(where: argparse.Namespace, name: str) -> list[str]:
    cluster = _cluster(where)
    namespace = where.namespace or cluster.namespace
    spec = cluster.get_pipeline(namespace, name)["spec"]["template"]["spec"]
    pod = cluster.find_pod(namespace, name) or {"spec": {}}
    both = (pod["spec"], spec)  # Admission may have injected some.
    containers = [one["name"] for spec in both for one in spec.get("containers") or ()]
    return [one.name for spec in both for one in init_containers(spec)] + containers
