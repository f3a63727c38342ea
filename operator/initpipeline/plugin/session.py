"""Gives a subcommand its options, its output and, when it first needs it, the cluster."""

import argparse
import shlex
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.status import Status
from rich.text import Text

from initpipeline.api import names
from initpipeline.api.raw import Raw
from initpipeline.core.errors import UnreadableError
from initpipeline.core.facts import Pipeline
from initpipeline.core.pod import Pod
from initpipeline.plugin import terminal
from initpipeline.plugin.cluster import kubeconfig
from initpipeline.plugin.cluster.client import ClusterClient
from initpipeline.plugin.errors import NotFoundError, NotUsableError, PluginError
from initpipeline.plugin.report.formatting import one_line

PROGRESS_DELAY_SECONDS: Final = 1.0
"""An operation that takes longer is shown as in progress."""


@dataclass(frozen=True)
class Target:
    """Namespace and name of an InitPipeline."""

    namespace: str
    name: str


@dataclass
class Session:
    """One invocation of the plugin."""

    options: argparse.Namespace
    out: Console
    err: Console
    key_directory: Path
    """A temporary directory for private keys of the kubeconfig. Removed at exit."""
    _pod: Pod | None = None
    """The Pod that ``pod_of`` read last."""
    _within_line: bool = False
    """The log that was printed last does not end with a newline."""

    @cached_property
    def cluster(self) -> ClusterClient:
        """The client of the cluster, which is created on first use. Raises NotUsableError if the
        kubeconfig is missing or invalid."""
        options = self.options
        with self.progress("reading the kubeconfig"):
            return ClusterClient(
                kubeconfig.load(options.kubeconfig, options.context), self.key_directory
            )

    @property
    def namespace(self) -> str:
        """The namespace of -n, or else of the context."""
        return self.options.namespace or self.cluster.namespace

    @property
    def scope(self) -> str | None:
        """The namespace to list. None: all namespaces."""
        return None if self.options.all_namespaces else self.namespace

    def target(self, name: str) -> Target:
        """Returns the InitPipeline with this name. With -A, its namespace is looked up.

        The name may have the form that ``kubectl get -o name`` prints. Raises NotFoundError.
        """
        name = name.rpartition("/")[2]
        if not self.options.all_namespaces:
            return Target(self.namespace, name)
        with self.progress("searching all namespaces"):
            metadata = [item["metadata"] for item in self.cluster.list_pipelines(None)]
        namespaces = sorted(m["namespace"] for m in metadata if m["name"] == name)
        if not namespaces:
            raise NotFoundError(
                f'no InitPipeline "{name}" in any namespace: list them with kubectl initpipeline '
                "status -A"
            )
        if len(namespaces) > 1:
            where = ", ".join(namespaces)
            raise NotFoundError(
                f'InitPipeline "{name}" exists in several namespaces ({where}): choose one with -n'
            )
        return Target(namespaces[0], name)

    def flags(self, target: Target) -> str:
        """Returns the flags with which a kubectl command that is shown to the user finds the
        target, quoted for a shell."""
        context, kubeconfig = self.options.context, self.options.kubeconfig
        # Neither kubectl nor a shell replaces a ~ in quotes.
        file = str(Path(kubeconfig).expanduser()) if kubeconfig else ""
        flags = [f"--kubeconfig {shlex.quote(file)}"] if file else []
        flags += [f"--context {shlex.quote(context)}"] if context else []
        flags += [f"-n {target.namespace}"] if target.namespace != self.cluster.namespace else []
        return "".join(f" {flag}" for flag in flags)

    def read(self, target: Target) -> Raw:
        """Returns the InitPipeline. Raises NotFoundError."""
        with self.progress(f"reading {target.name}"):
            return self.cluster.get_pipeline(target.namespace, target.name)

    def pod_of(self, pipeline: Pipeline) -> Pod | None:
        """Returns the Pod of the current run, whose spec separates steps from sidecars.

        None: the run has no Pod, or it cannot be read. The containers of a Pod never change, so
        each Pod is read only once.
        """
        run = pipeline.status.run
        uid = run.pod_uid if run else None
        if uid is None:
            return None
        if self._pod is None or self._pod.uid != uid:
            try:
                raw = self.cluster.find_pod(pipeline.namespace, pipeline.name)
                self._pod = None if raw is None else Pod.from_api(raw)
            except (NotUsableError, UnreadableError):
                return None
        return self._pod if self._pod and self._pod.uid == uid else None

    def show(self, view: RenderableType) -> None:
        """Prints a view for the user."""
        if self.out.is_terminal:
            self.out.print(view)
            return
        with self.out.capture() as captured:
            self.out.print(view)
        for line in captured.get().removesuffix("\n").split("\n"):
            self.out.print(line.rstrip(), soft_wrap=True)  # Without the padding of tables.

    def show_data(self, data: Any) -> None:
        """Prints data in the format of ``-o``, for a program."""
        encode = terminal.to_json if self.options.output == "json" else terminal.to_yaml
        self.out.file.write(encode(data, self.out.encoding) + "\n")

    def write(self, data: bytes) -> None:
        """Prints bytes of a log unchanged."""
        terminal.write_bytes(self.out.file, data)
        if data:
            self._within_line = not data.endswith(b"\n")

    def write_file(self, text: str) -> None:
        """Prints the text of a file as UTF-8, in any locale."""
        terminal.write_bytes(self.out.file, text.encode(errors="replace"))

    def start_line(self) -> None:
        """Ends the last line of a log, before the plugin prints a line of its own. Only on a
        terminal: a pipe gets the bytes of the log and nothing else."""
        if self._within_line and self.out.is_terminal:
            self.write(b"\n")

    def show_change(self, changed: Raw, message: str) -> None:
        """Prints what was changed, as kubectl does, or the changed object with ``-o``."""
        if self.wants_data:
            self.show_data(changed)
        else:
            self.out.print(message, soft_wrap=True)

    def pause(self, seconds: float) -> None:
        """Waits between two requests."""
        time.sleep(seconds)

    @property
    def wants_data(self) -> bool:
        """True if the user has asked for JSON or YAML."""
        return getattr(self.options, "output", None) in ("json", "yaml")

    def note(self, line: str) -> None:
        """Prints a line on stderr, in addition to the output."""
        self.start_line()
        self.err.print(line, style="dim", soft_wrap=True)

    def fail(self, error: PluginError) -> int:
        """Prints the error in one line and returns its exit code."""
        self.start_line()
        self.err.print(f"error: {one_line(str(error))}", soft_wrap=True)
        return error.code

    @contextmanager
    def progress(self, message: str) -> Iterator[None]:
        """Shows the message on a terminal if the block takes longer than a second."""
        if not self.err.is_terminal:
            yield
            return
        text = Text(f"{message} ...", no_wrap=True, overflow="ellipsis")
        status = Status(text, console=self.err)

        def start() -> None:
            self.start_line()
            status.start()

        timer = threading.Timer(PROGRESS_DELAY_SECONDS, start)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            status.stop()

    def targets(self, names: Sequence[str]) -> list[Target]:
        """Returns the InitPipelines with these names, each once. Raises NotFoundError."""
        return [self.target(name) for name in dict.fromkeys(names)]


def resource(target: Target) -> str:
    """Returns the resource in the form that kubectl prints after a change."""
    return f"{names.SINGULAR}.{names.GROUP}/{target.name}"
