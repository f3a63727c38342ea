"""``logs``: the logs of the steps."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from rich.text import Text

from initpipeline.api.models import RunFacts, RunRecord
from initpipeline.api.reasons import ConditionType
from initpipeline.core.facts import Pipeline, Pod, init_containers
from initpipeline.plugin.cluster.client import MAX_RETRIES, RETRY_SECONDS
from initpipeline.plugin.cluster.log_reader import LogReader
from initpipeline.plugin.errors import NoAnswerError, NotFoundError
from initpipeline.plugin.options import Subparsers, command
from initpipeline.plugin.report import formatting, log_parts, wait_results
from initpipeline.plugin.report.log_parts import Part
from initpipeline.plugin.session import Session, Target
from initpipeline.plugin.views import history

TURN_SECONDS: Final = 2.0
"""While it is followed, the InitPipeline is read anew so often where nothing happens to its Pod."""

_EXAMPLES = """\
  kubectl initpipeline logs shop                  all steps, in order, failed ones included
  kubectl initpipeline logs shop -f               and what comes, until the run is initialized
  kubectl initpipeline logs shop migrate --previous   the attempt before
  kubectl initpipeline logs shop --run 3          what is recorded of a run whose Pod is gone
"""

_DESCRIPTION = """\
Print the logs of the init containers of the current run in their order, including those that have
finished or failed, with a header for each on a terminal. STEP may also name an app container. The
bytes are copied unchanged, as by kubectl logs.

-f continues from step to step, from attempt to attempt and, if one failed, to the next run. It
begins with the attempt before the newest, if the node still has its log, and continues after the
stream was cut. It ends when the run is initialized (0), a named STEP has succeeded (0), or the
InitPipeline is Stalled or suspended (1). Without a STEP it does not follow sidecars, which never
end: it prints what they have written so far.

The logs of a Pod that is gone are gone. status.history records how a step failed, and its
termination message or the end of its log. --run shows that, and so does logs without a Pod."""


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "logs",
        run,
        summary="the logs of the steps in order, including finished and failed ones",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        completes=["pipeline", "step"],
    )
    parser.add_argument("name", metavar="NAME", help="an InitPipeline")
    parser.add_argument("step", nargs="?", metavar="STEP", help="one container; default: all steps")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as they are written")
    parser.add_argument(
        "-p", "--previous", action="store_true", help="the attempts before the newest"
    )
    parser.add_argument("--run", type=int, metavar="N", help="a run by its number, see history")


def run(session: Session) -> int:
    target = session.target(session.options.name)
    pipeline = Pipeline.from_api(session.read(target))
    number = session.options.run
    if number is not None and not _is_current(pipeline, number):
        return _recorded(session, _record(pipeline, number))
    if session.options.follow:
        return _Follower(session, target).run()
    return _once(session, target, pipeline)


def _once(session: Session, target: Target, pipeline: Pipeline) -> int:
    wanted = session.options.step
    pod = _pod(session, target, pipeline)
    _check_step(pipeline, pod, wanted)
    parts: list[Part] = []
    if pod is not None and session.options.previous:
        parts = log_parts.before(pod, wanted)
        if not parts:
            raise NotFoundError("no attempt before the newest is known; history has earlier runs")
    elif pod is not None:
        parts = log_parts.present(pod, wanted, _stale(pipeline))
    if pod is not None:
        for part in parts:
            _print_log(session, part, LogReader(session, target, pod.uid, part).once())
    if not parts:
        return _without_logs(session, pipeline, pod)
    return 0


def _without_logs(session: Session, pipeline: Pipeline, pod: Pod | None) -> int:
    failed = {record.number: record for record in pipeline.status.history if record.failed_step}
    run = pipeline.status.run
    if pod is None and run is not None and run.number in failed:
        return _recorded(session, failed[run.number])
    reason = formatting.ready_message(pipeline.status)
    session.note(f"nothing has been written yet: {formatting.one_line(reason)}")
    if failed:
        number = max(failed)
        session.note(f"how run {number} failed is recorded: see --run {number}")
    return 0


class _Follower:
    """Prints what the steps write until the run is over."""

    def __init__(self, session: Session, target: Target) -> None:
        self._session = session
        self._target = target
        self._wanted: str | None = session.options.step
        self._seen: set[str] = set()

    def run(self) -> int:
        """The exit code. Raises NoAnswerError if the API server does not answer for a while."""
        failures = 0
        while True:
            try:
                code = self._turn()
            except NoAnswerError as error:
                failures += 1
                if failures > MAX_RETRIES:
                    raise
                if failures == 1:
                    self._session.note(f"trying again: {error}")
                self._session.pause(RETRY_SECONDS)
                continue
            failures = 0
            if code is not None:
                return code

    def _turn(self) -> int | None:
        """Print the next attempt, or else wait until something happens to the Pod. None: go on."""
        raw = self._session.cluster.get_pipeline(self._target.namespace, self._target.name)
        pipeline = Pipeline.from_api(raw)
        raw_pod = self._session.cluster.find_pod(self._target.namespace, self._target.name)
        pod = _of_run(pipeline, None if raw_pod is None else Pod.from_api(raw_pod))
        _check_step(pipeline, pod, self._wanted)
        if wait_results.up_to_date(pipeline) and self._print(pipeline, pod):
            return None  # It took its time: what was read before is old.
        code = self._end(pipeline, pod)
        if code is None:
            with self._session.progress(
                formatting.one_line(formatting.ready_message(pipeline.status))
            ):
                self._session.cluster.wait_for_pod_change(
                    self._target.namespace, self._target.name, raw_pod, TURN_SECONDS
                )
        return code

    def _print(self, pipeline: Pipeline, pod: Pod | None) -> bool:
        """Print the next attempt that was not printed yet. Whether there was one."""
        if pod is None:
            return False
        parts = log_parts.unseen(pod, self._wanted, _stale(pipeline), self._seen)
        for part in parts[:1]:
            self._seen.add(part.container_id)
            follow = part.running and (not part.sidecar or self._wanted is not None)
            reader = LogReader(self._session, self._target, pod.uid, part)
            _print_log(self._session, part, reader.all(follow=follow))
        return bool(parts)

    def _end(self, pipeline: Pipeline, pod: Pod | None) -> int | None:
        """The exit code, once nothing is to come."""
        status = pipeline.status
        if not wait_results.up_to_date(pipeline):
            return None
        if status.condition(ConditionType.STALLED) or status.condition(ConditionType.SUSPENDED):
            self._session.note(
                f"{pipeline.name}: {formatting.one_line(formatting.ready_message(status))}"
            )
            return 1
        if status.run is None or status.next_run_time is not None:
            return None
        if self._wanted is None:
            return 0 if status.run.initialized_time else None
        done = {entry.name for entry in status.run.completed_init_containers}
        app = pod is not None and self._wanted in {s.name for s in pod.container_statuses}
        return 0 if self._wanted in done or (app and self._seen) else None


def _is_current(pipeline: Pipeline, number: int) -> bool:
    return pipeline.status.run is not None and pipeline.status.run.number == number


def _record(pipeline: Pipeline, number: int) -> RunFacts:
    known = history.runs(pipeline.status)
    for record in known:
        if record.number == number:
            return record
    numbers = [str(record.number) for record in known]
    kept = f"it has {', '.join(numbers)}" if numbers else "it is empty"
    raise NotFoundError(f"run {number} is not in the history: {kept} (spec.runHistoryLimit)")


def _recorded(session: Session, record: RunFacts) -> int:
    """The evidence that history keeps. Says that it is no log."""
    recorded = record if isinstance(record, RunRecord) else None
    failed = recorded.failed_step if recorded else None
    result = record.result.value if record.result else "going on"
    said = (
        f"run {record.number} ({record.trigger}, {result}): its logs are gone with its containers"
    )
    if recorded is None or failed is None:
        session.note(f"{said}; history records no failed step")
        return 0
    wanted = session.options.step
    if wanted is not None and wanted != failed.name:
        raise NotFoundError(f'{said}; history records the step that failed, "{failed.name}"')
    how = formatting.exit_text(failed.exit_code, failed.signal, failed.reason)
    session.note(f'{said}; history records of the step "{failed.name}", {how or "no exit code"}:')
    _write_words(session, history.last_words(recorded) or "(no last words)")
    return 0


def _pod(session: Session, target: Target, pipeline: Pipeline) -> Pod | None:
    with session.progress(f"reading the Pod {target.name}"):
        raw = session.cluster.find_pod(target.namespace, target.name)
    return _of_run(pipeline, None if raw is None else Pod.from_api(raw))


def _of_run(pipeline: Pipeline, pod: Pod | None) -> Pod | None:
    """The Pod, if it is the current run's."""
    run = pipeline.status.run
    if pod is None or run is None or pod.owner_uid != pipeline.uid:
        return None
    ours = pod.uid == run.pod_uid if run.pod_uid else pod.run == run.number
    return pod if ours else None


def _stale(pipeline: Pipeline) -> tuple[str, ...]:
    run = pipeline.status.run
    return run.stale_container_ids if run else ()


def _check_step(pipeline: Pipeline, pod: Pod | None, wanted: str | None) -> None:
    """Raises NotFoundError where no container has that name."""
    spec = pipeline.template["spec"]
    known = [container.name for container in init_containers(spec)]
    known += [container["name"] for container in spec["containers"]]
    known = list(dict.fromkeys([*known, *(log_parts.container_names(pod) if pod else [])]))
    if wanted is None or wanted in known:
        return
    near = get_close_matches(wanted, known, 3)
    hint = f"did you mean {', '.join(near)}?" if near else f"it has {', '.join(known)}"
    raise NotFoundError(f'"{pipeline.name}" has no step "{wanted}": {hint}')


def _print_log(session: Session, part: Part, log: Iterable[bytes]) -> None:
    """Print the bytes of the log unchanged, or a note if there are none."""
    if session.out.is_terminal:
        session.start_line()
        session.out.print(Text(f"==> {part.title} <==", "bold"))
    missing = f"{part.title}; it {'has written nothing yet' if part.running else 'wrote nothing'}"
    try:
        for chunk in log:
            session.write(chunk)
            missing = "" if chunk else missing
    except NotFoundError as error:
        missing = f"no log of {part.title}: {error}"
    if missing:
        session.note(missing)
        if part.last_words:
            session.note("what the container's status has of its end:")
            _write_words(session, part.last_words)


def _write_words(session: Session, text: str) -> None:
    session.write(f"{text}\n".encode(errors="replace"))
