"""What a subcommand works with: the options, the terminal, and the cluster once it is needed."""

import argparse
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
from initpipeline.core.facts import Pipeline, Pod, UnreadableError
from initpipeline.plugin import terminal
from initpipeline.plugin.cluster import kubeconfig
from initpipeline.plugin.cluster.client import ClusterClient
from initpipeline.plugin.errors import NotFoundError, NotUsableError, PluginError
from initpipeline.plugin.report.formatting import one_line

Raw = dict[str, Any]

PATIENCE_SECONDS: Final = 1.0
"""Whatever takes longer shows that it is under way."""


@dataclass(frozen=True)
class Target:
    """An InitPipeline by its name."""

    namespace: str
    name: str


@dataclass
class Session:
    """One call of the plugin."""

    options: argparse.Namespace
    out: Console
    err: Console
    keys: Path
    """A directory of our own, which goes when we do."""
    _pod: Pod | None = None
    _within_line: bool = False
    """The last byte of a log that was printed is no newline."""

    @cached_property
    def cluster(self) -> ClusterClient:
        """Raises NotUsableError where there is no cluster to be had."""
        options = self.options
        with self.progress("finding the cluster"):
            return ClusterClient(kubeconfig.load(options.kubeconfig, options.context), self.keys)

    @property
    def namespace(self) -> str:
        """The one that was asked for, else the context's."""
        return self.options.namespace or self.cluster.namespace

    @property
    def scope(self) -> str | None:
        """The namespace to list; None: all."""
        return None if self.options.all_namespaces else self.namespace

    def target(self, name: str) -> Target:
        """The InitPipeline of this name; with -A, in whichever namespace it is. The name may be as
        ``kubectl get -o name`` prints it. Raises NotFoundError."""
        name = name.rpartition("/")[2]
        if not self.options.all_namespaces:
            return Target(self.namespace, name)
        with self.progress("looking in all namespaces"):
            metadata = [item["metadata"] for item in self.cluster.list_pipelines(None)]
        found = sorted(m["namespace"] for m in metadata if m["name"] == name)
        if not found:
            raise NotFoundError(f'no InitPipeline "{name}" in any namespace: -A lists them')
        if len(found) > 1:
            raise NotFoundError(f'"{name}" is in {", ".join(found)}: say which with -n')
        return Target(found[0], name)

    def flags(self, target: Target) -> str:
        """What a command about it needs to be told besides its name, to be shown to a person."""
        context, kubeconfig = self.options.context, self.options.kubeconfig
        given = [f"--kubeconfig {kubeconfig}"] if kubeconfig else []
        given += [f"--context {context}"] if context else []
        given += [f"-n {target.namespace}"] if target.namespace != self.cluster.namespace else []
        return "".join(f" {flag}" for flag in given)

    def read(self, target: Target) -> Raw:
        """The InitPipeline. Raises NotFoundError."""
        with self.progress(f"reading {target.name}"):
            return self.cluster.get_pipeline(target.namespace, target.name)

    def pod_of(self, pipeline: Pipeline) -> Pod | None:
        """Returns the Pod of the current run: its spec separates steps from sidecars.

        None: there is none, or it cannot be read. A Pod's containers never change, so each Pod is
        read once.
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
        """Print for a person."""
        if self.out.is_terminal:
            self.out.print(view)
            return
        with self.out.capture() as captured:
            self.out.print(view)
        for line in captured.get().removesuffix("\n").split("\n"):
            self.out.print(line.rstrip(), soft_wrap=True)  # Tables are padded to their widest line.

    def show_data(self, data: Any) -> None:
        """Print data for a program in the format of ``-o``, verbatim, with escapes if needed."""
        form = terminal.to_json if self.options.output == "json" else terminal.to_yaml
        self.out.file.write(form(data, self.out.encoding) + "\n")

    def write(self, data: bytes) -> None:
        """Print bytes of a log as they are."""
        terminal.write_bytes(self.out.file, data)
        if data:
            self._within_line = not data.endswith(b"\n")

    def write_file(self, text: str) -> None:
        """Print the text of a file. It is UTF-8, whatever the terminal shows."""
        terminal.write_bytes(self.out.file, text.encode(errors="replace"))

    def start_line(self) -> None:
        """End the line of a log, so that the plugin's next line starts a new one. Only on a
        terminal: a pipe gets the bytes of the log and nothing else."""
        if self._within_line and self.out.is_terminal:
            self.write(b"\n")

    def changed(self, after: Raw, words: str) -> None:
        """Tell what was done, as kubectl does; with -o the object as it is now."""
        if self.for_a_program:
            self.show_data(after)
        else:
            self.out.print(words, soft_wrap=True)

    def pause(self, seconds: float) -> None:
        """Let time pass between two looks."""
        time.sleep(seconds)

    @property
    def for_a_program(self) -> bool:
        return getattr(self.options, "output", None) in ("json", "yaml")

    def note(self, line: str) -> None:
        """A word beside the output proper, on stderr."""
        self.start_line()
        self.err.print(line, style="dim", soft_wrap=True)

    def fail(self, error: PluginError) -> int:
        """Print the error in one line. Returns the exit code."""
        self.start_line()
        self.err.print(f"error: {one_line(str(error))}", soft_wrap=True)
        return error.code

    @contextmanager
    def progress(self, words: str) -> Iterator[None]:
        """Show on a terminal that something is under way, once it takes longer than a moment."""
        if not self.err.is_terminal:
            yield
            return
        line = Text(f"{words} ...", no_wrap=True, overflow="ellipsis")
        status = Status(line, console=self.err)

        def start() -> None:
            self.start_line()
            status.start()

        timer = threading.Timer(PATIENCE_SECONDS, start)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            status.stop()

    def each(self, given: Sequence[str]) -> Iterator[Target]:
        """The InitPipelines of these names, each once. Raises NotFoundError."""
        for name in dict.fromkeys(given):
            yield self.target(name)


def resource(target: Target) -> str:
    """As kubectl names it when it has changed it."""
    return f"{names.SINGULAR}.{names.GROUP}/{target.name}"
