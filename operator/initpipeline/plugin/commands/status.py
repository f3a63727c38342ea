"""``status``: where pipelines are."""

from rich.console import RenderableType
from rich.live import Live

from initpipeline.core.facts import Pipeline, UnreadableError
from initpipeline.plugin.cluster import wait
from initpipeline.plugin.options import EXIT_CODES, WIDE, Subparsers, command
from initpipeline.plugin.report import wait_results
from initpipeline.plugin.report.summary import summary
from initpipeline.plugin.session import Session, Target
from initpipeline.plugin.views import status as view

_REFRESH_SECONDS = 2.0
"""The table is read anew so often: a watch of all of them would tell more than it shows."""

_EXAMPLES = """\
  kubectl initpipeline status                   all in this namespace, those in need first
  kubectl initpipeline status -A -o wide        all, with node and message
  kubectl initpipeline status shop              one, step by step, and what comes next
  kubectl initpipeline status shop --watch      live, until it is Ready (0) or Stalled (1)
  kubectl initpipeline status shop -o json | jq .steps
"""

_DESCRIPTION = """\
Without a name: a line for each InitPipeline. With one: its current run as a tree of steps, with
durations, restarts, exit codes and last words, and what comes next.

The exit code is 1 if the named InitPipeline is Stalled."""


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "status",
        run,
        summary="where pipelines are: a table of all, or one step by step",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        outputs=WIDE,
        completes=["pipeline"],
        codes=EXIT_CODES,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="an InitPipeline; default: all")
    parser.add_argument(
        "-w",
        "--watch",
        action="store_true",
        help="show it live, until it is Ready or Stalled; without a NAME until Ctrl-C",
    )
    wait.add_timeout_option(parser, of="--watch NAME")


def run(session: Session) -> int:
    name = session.options.name
    if name is None:
        return _watch_all(session) if session.options.watch else _all(session)
    target = session.target(name)
    return _watch(session, target) if session.options.watch else _one(session, target)


def _one(session: Session, target: Target) -> int:
    pipeline = Pipeline.from_api(session.read(target))
    _show(session, target, pipeline)
    return int(summary(pipeline.status) == "Stalled")


def _watch(session: Session, target: Target) -> int:
    pipeline, end = wait.wait(
        session, target, wait_results.ready_or_stalled, session.options.timeout
    )
    _show(session, target, pipeline)
    return 0 if end.ok else 1


def _show(session: Session, target: Target, pipeline: Pipeline) -> None:
    pod = session.pod_of(pipeline)
    now = session.cluster.now()
    if session.for_a_program:
        session.show_data(view.data(pipeline, now, pod))
        return
    session.show(view.tree(pipeline, now, pod))
    if summary(pipeline.status) != "Ready":
        command = f"kubectl initpipeline explain {target.name}{session.flags(target)}"
        session.note(f"{command} tells why, and what you can do")


def _all(session: Session) -> int:
    pipelines = _read_all(session)
    if session.for_a_program:
        now = session.cluster.now()
        session.show_data([view.data(pipeline, now) for pipeline in pipelines])
    elif pipelines:
        session.show(_table(session, pipelines))
    else:
        session.note(_nothing(session))
    return 0


def _watch_all(session: Session) -> int:
    if not session.out.is_terminal:
        return _tell_all(session)
    with Live(console=session.out, auto_refresh=False) as live:
        while True:
            live.update(_table(session, _read_all(session)), refresh=True)
            session.pause(_REFRESH_SECONDS)


def _tell_all(session: Session) -> int:
    """Where nobody looks at a terminal: a line for each pipeline that has changed."""
    told: set[str] = set()
    while True:
        lines = [f"{p.namespace}/{view.line(p)}" for p in _read_all(session)]
        for line in lines:
            if line not in told:
                session.out.print(line, soft_wrap=True)
        told = set(lines)
        session.pause(_REFRESH_SECONDS)


def _read_all(session: Session) -> list[Pipeline]:
    """Returns the InitPipelines that can be read. A note names each of the others."""
    with session.progress("reading InitPipelines"):
        every = session.cluster.list_pipelines(session.scope)
    readable = []
    for raw in every:
        try:
            readable.append(Pipeline.from_api(raw))
        except UnreadableError as error:
            where = f"{raw['metadata']['namespace']}/{raw['metadata']['name']}"
            session.note(f"{where} is left out, since this version cannot read it: {error}")
    return readable


def _table(session: Session, pipelines: list[Pipeline]) -> RenderableType:
    return view.table(
        pipelines,
        session.cluster.now(),
        namespaces=session.options.all_namespaces,
        wide=session.options.output == "wide",
    )


def _nothing(session: Session) -> str:
    if session.scope is None:
        return "no InitPipelines"
    return f'no InitPipelines in namespace "{session.scope}"; -A looks in all'
