"""Implements ``status``, which shows all InitPipelines in a table, or one with its steps."""

from typing import Final, NoReturn

from rich.console import RenderableType
from rich.live import Live

from initpipeline.core.errors import UnreadableError
from initpipeline.core.facts import Pipeline
from initpipeline.plugin.cluster import wait
from initpipeline.plugin.options import WIDE, Subparsers, command, exit_codes
from initpipeline.plugin.report import wait_results
from initpipeline.plugin.report.summary import summary
from initpipeline.plugin.session import Session, Target
from initpipeline.plugin.views import status as view

_POLL_SECONDS: Final = 2.0
"""Seconds between two lists with --watch. Polling suffices, because the table shows few of the
changes that a watch would report."""

_EXAMPLES = """\
  # List the InitPipelines of a namespace; those that need attention come first
  kubectl initpipeline status

  # List those of all namespaces, with node and message
  kubectl initpipeline status -A -o wide

  # Show the steps of the current run, and what happens next
  kubectl initpipeline status shop

  # Watch the steps until the InitPipeline is Ready (exit code 0), Stalled or suspended (1)
  kubectl initpipeline status shop --watch

  # Print the steps as JSON
  kubectl initpipeline status shop -o json | jq .steps
"""

_DESCRIPTION = """\
Without NAME, list InitPipelines. With NAME, show the steps of its current run, with their
durations, restarts, exit codes and last messages, and what happens next.

--watch NAME ends when the InitPipeline is Ready for the first time. If the app containers end by
themselves, this may be before their end: the reason is first PodReady, and PodSucceeded when all
have succeeded. If the InitPipeline is suspended, --watch NAME ends when there is no Pod."""


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "status",
        run,
        summary="List InitPipelines, or show the steps of one",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        outputs=WIDE,
        completes=["pipeline"],
        codes=exit_codes(
            "the InitPipeline NAME is Stalled, or with --watch suspended; or the API server "
            "refused the request",
            times_out=True,
        ),
    )
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="name of an InitPipeline (default: all)"
    )
    parser.add_argument(
        "-w",
        "--watch",
        action="store_true",
        help="watch NAME until it is Ready, Stalled or suspended; without NAME, all until Ctrl-C",
    )
    wait.add_timeout_option(parser, of="--watch NAME")


def run(session: Session) -> int:
    name = session.options.name
    if name is None:
        return _watch_all(session) if session.options.watch else _list(session)
    target = session.target(name)
    return _watch_one(session, target) if session.options.watch else _show_one(session, target)


def _show_one(session: Session, target: Target) -> int:
    pipeline = Pipeline.from_api(session.read(target))
    _show(session, target, pipeline)
    return int(summary(pipeline.status) == "Stalled")


def _watch_one(session: Session, target: Target) -> int:
    check, timeout = wait_results.ready_stalled_or_suspended, session.options.timeout
    pipeline, result = wait.wait(session, target, check, timeout)
    _show(session, target, pipeline)
    return 0 if result.ok else 1


def _show(session: Session, target: Target, pipeline: Pipeline) -> None:
    pod = session.pod_of(pipeline)
    now = session.cluster.now()
    if session.wants_data:
        session.show_data(view.data(pipeline, now, pod))
        return
    session.show(view.tree(pipeline, now, pod))
    if summary(pipeline.status) != "Ready":
        explain = f"kubectl initpipeline explain {target.name}{session.flags(target)}"
        session.note(f"to see why, and what you can do: {explain}")


def _list(session: Session) -> int:
    pipelines = _read_all(session)
    if session.wants_data:
        now = session.cluster.now()
        session.show_data([view.data(pipeline, now) for pipeline in pipelines])
    elif pipelines:
        session.show(_table(session, pipelines))
    else:
        session.note(_none_found(session))
    return 0


def _watch_all(session: Session) -> NoReturn:
    """Shows the table, and updates it. Runs until the user interrupts it."""
    if not session.out.is_terminal:
        _print_changes(session)
    with Live(console=session.out, auto_refresh=False) as live:
        while True:
            live.update(_table(session, _read_all(session)), refresh=True)
            session.pause(_POLL_SECONDS)


def _print_changes(session: Session) -> NoReturn:
    """Prints a line for each InitPipeline that has changed. Runs until the user interrupts it."""
    printed: set[str] = set()
    while True:
        lines = [f"{p.namespace}/{view.line(p)}" for p in _read_all(session)]
        for line in lines:
            if line not in printed:
                session.out.print(line, soft_wrap=True)
        printed = set(lines)
        session.pause(_POLL_SECONDS)


def _read_all(session: Session) -> list[Pipeline]:
    """Returns the InitPipelines that the plugin can read. Prints a note for each of the others."""
    with session.progress("reading InitPipelines"):
        items = session.cluster.list_pipelines(session.scope)
    readable = []
    for raw in items:
        try:
            readable.append(Pipeline.from_api(raw))
        except UnreadableError as error:
            key = f"{raw['metadata']['namespace']}/{raw['metadata']['name']}"
            session.note(
                f"{key} is omitted: this version of the plugin cannot read the object: {error}"
            )
    return readable


def _table(session: Session, pipelines: list[Pipeline]) -> RenderableType:
    return view.table(
        pipelines,
        session.cluster.now(),
        namespaces=session.options.all_namespaces,
        wide=session.options.output == "wide",
    )


def _none_found(session: Session) -> str:
    if session.scope is None:
        return "no InitPipelines"
    return f'no InitPipelines in namespace "{session.scope}"; -A lists all namespaces'
