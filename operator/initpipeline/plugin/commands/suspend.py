"""``suspend`` and ``resume``: no Pod, and a Pod again."""

from initpipeline.plugin.cluster import wait
from initpipeline.plugin.commands.rerun import add_wait
from initpipeline.plugin.options import TABLE, Subparsers, command
from initpipeline.plugin.report import wait_results
from initpipeline.plugin.session import Session, Target, resource

_SUSPEND = """\
Sets spec.suspend: the Pod is deleted and no run starts until resume. History stays. A pipeline that
is kept in git is suspended there: else the next sync takes it back.

With --wait, until no Pod is left: 0; 1 if the Pod does not go; 124 when --timeout is over."""

_RESUME = """\
Takes spec.suspend back: a new run starts, with the template as it is now.

With --wait, until that run is Ready: 0; 1 if it was given up; 124 when --timeout is over."""


def add(subparsers: Subparsers) -> None:
    for name, handler, summary, description in (
        ("suspend", suspend, "delete the Pod and start no run", _SUSPEND),
        ("resume", resume, "start a run after suspend", _RESUME),
    ):
        parser = command(
            subparsers,
            name,
            handler,
            summary=summary,
            description=description,
            examples=f"  kubectl initpipeline {name} shop --wait\n"
            f"  kubectl initpipeline {name} shop api -n team-a\n",
            outputs=TABLE,
            completes=["pipeline"],
        )
        parser.add_argument("names", nargs="+", metavar="NAME", help="InitPipelines")
        add_wait(parser)


def suspend(session: Session) -> int:
    return _set(session, True, "suspended", wait_results.suspended)


def resume(session: Session) -> int:
    return _set(session, False, "resumed", wait_results.ready_or_stalled)


def _set(session: Session, value: bool, done: str, check: wait.Check) -> int:
    targets = list(session.each(session.options.names))
    for target in targets:
        _set_one(session, target, value, done)
    if not session.options.wait:
        return 0
    checks = dict.fromkeys(targets, check)
    return wait.wait_for_all(session, checks, session.options.timeout)


def _set_one(session: Session, target: Target, value: bool, done: str) -> None:
    before = session.read(target)
    if bool(before["spec"].get("suspend")) is value:
        session.changed(before, f"{resource(target)} was {done} already")
        return
    with session.progress(f"changing {target.name}"):
        change = {"spec": {"suspend": value}}
        changed = session.cluster.patch_pipeline(target.namespace, target.name, change)
    session.changed(changed, f"{resource(target)} {done}")
