"""Implements ``logs``, which prints the logs of the steps in order."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from rich.text import Text

from initpipeline.api.models import RunFacts, RunRecord
from initpipeline.api.raw import Raw
from initpipeline.api.reasons import ConditionType
from initpipeline.core.containers import init_containers
from initpipeline.core.facts import Facts, Pipeline
from initpipeline.core.pod import Pod
from initpipeline.plugin.cluster.client import MAX_RETRIES, RETRY_SECONDS
from initpipeline.plugin.cluster.log_reader import LogReader
from initpipeline.plugin.errors import NoAnswerError, NotFoundError
from initpipeline.plugin.options import Subparsers, command, exit_codes, name_argument
from initpipeline.plugin.report import formatting, log_parts, wait_results
from initpipeline.plugin.report.history import last_message, recorded_runs
from initpipeline.plugin.report.log_parts import Part
from initpipeline.plugin.session import Session, Target

POLL_SECONDS: Final = 2.0
"""How often -f reads the InitPipeline again if its Pod does not change."""

_EXAMPLES = """\
  # Print the logs of all steps
  kubectl initpipeline logs shop

  # Follow all steps until the run is initialized
  kubectl initpipeline logs shop -f

  # Print the log of the previous attempt of a step
  kubectl initpipeline logs shop migrate --previous

  # Print what history records of an earlier run
  kubectl initpipeline logs shop --run 3
"""

_DESCRIPTION = """\
Print the logs of the init containers of the current run in order, including those that have
finished or failed. On a terminal, each log has a header. STEP may also name an app container. The
bytes are copied unchanged, as in kubectl logs.

With -f, logs follows each attempt of each step and, if a run fails, the next run. The output starts
with the previous attempt, if the node still has its log, and continues if the connection is cut.
The command ends with exit code 0 when the run is initialized. With STEP, it ends with 0 when the
step has succeeded, or the log of the sidecar or app container is complete. It ends with 1 if the
InitPipeline is Stalled or suspended. Without STEP, the log of a sidecar is printed once and not
followed.

The logs of a Pod are deleted with the Pod. For a failed run, status.history records the exit code
of the step, and its termination message or the end of its log. logs prints this record with --run,
or if there is no Pod."""


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "logs",
        run,
        summary="Print the logs of the steps in order",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        completes=["pipeline", "step"],
        codes=exit_codes(
            "with -f: the InitPipeline is Stalled or suspended; or the API server refused the "
            "request",
            missing="the InitPipeline, step or run does not exist",
        ),
    )
    name_argument(parser)
    parser.add_argument(
        "step", nargs="?", metavar="STEP", help="name of a container (default: all steps)"
    )
    parser.add_argument("-f", "--follow", action="store_true", help="follow the logs")
    parser.add_argument(
        "-p", "--previous", action="store_true", help="print the logs of the previous attempts"
    )
    parser.add_argument(
        "--run",
        type=int,
        metavar="N",
        help="number of a run, as listed by kubectl initpipeline history",
    )


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
    pod = _read_pod(session, target, pipeline)
    _check_step(pipeline, pod, wanted)
    if pod is None:
        return _without_logs(session, pipeline, pod)
    if session.options.previous:
        parts = _previous(pod, wanted)
    else:
        parts = log_parts.newest(pod, wanted, log_parts.stale_ids(pipeline.status))
    if not parts:
        return _without_logs(session, pipeline, pod)
    for part in parts:
        _print_log(session, part, LogReader(session, target, pod.uid, part).once())
    return 0


def _previous(pod: Pod, wanted: str | None) -> list[Part]:
    """Returns the previous attempts. Raises NotFoundError if no step was restarted."""
    parts = log_parts.previous(pod, wanted)
    if not parts:
        raise NotFoundError(
            "no step of this run has a previous attempt: kubectl initpipeline history lists "
            "earlier runs"
        )
    return parts


def _without_logs(session: Session, pipeline: Pipeline, pod: Pod | None) -> int:
    failed = {record.number: record for record in pipeline.status.history if record.failed_step}
    run = pipeline.status.run
    if pod is None and run is not None and run.number in failed:
        return _recorded(session, failed[run.number])
    message = formatting.state_message(pipeline.status)
    session.note(f"no logs: {formatting.one_line(message)}")
    if failed:
        number = max(failed)
        session.note(f"history records how run {number} failed: use --run {number}")
    return 0


class _Follower:
    """Prints the logs of the steps as they are written, until the run ends."""

    def __init__(self, session: Session, target: Target) -> None:
        self._session = session
        self._target = target
        self._wanted: str | None = session.options.step
        self._printed: set[str] = set()
        """IDs of containers whose logs were printed."""

    def run(self) -> int:
        """Follows the logs and returns the exit code. Raises NoAnswerError if the API server does
        not respond to MAX_RETRIES requests in a row."""
        failures = 0
        while True:
            try:
                code = self._print_or_wait()
            except NoAnswerError as error:
                failures += 1
                if failures > MAX_RETRIES:
                    raise
                if failures == 1:
                    self._session.note(f"retrying: {error}")
                self._session.pause(RETRY_SECONDS)
                continue
            failures = 0
            if code is not None:
                return code

    def _print_or_wait(self) -> int | None:
        """Prints the log of the next attempt, or waits until the Pod changes.

        Returns the exit code. None: there may be more logs.
        """
        raw = self._session.cluster.get_pipeline(self._target.namespace, self._target.name)
        pipeline = Pipeline.from_api(raw)
        raw_pod = self._session.cluster.find_pod(self._target.namespace, self._target.name)
        pod = _pod_of_run(pipeline, raw_pod)
        _check_step(pipeline, pod, self._wanted)
        if wait_results.up_to_date(pipeline) and self._print(pipeline, pod):
            return None  # The pipeline and the Pod may have changed meanwhile.
        code = self._exit_code(pipeline, pod)
        if code is None:
            with self._session.progress(
                formatting.one_line(formatting.state_message(pipeline.status))
            ):
                self._session.cluster.wait_for_pod_change(
                    self._target.namespace, self._target.name, raw_pod, POLL_SECONDS
                )
        return code

    def _print(self, pipeline: Pipeline, pod: Pod | None) -> bool:
        """Prints the log of the next attempt. Returns False if all logs are printed."""
        if pod is None:
            return False
        stale = log_parts.stale_ids(pipeline.status)
        parts = log_parts.not_printed(pod, self._wanted, stale, self._printed)
        for part in parts[:1]:
            self._printed.add(part.container_id)
            follow = part.running and (not part.sidecar or self._wanted is not None)
            reader = LogReader(self._session, self._target, pod.uid, part)
            _print_log(self._session, part, reader.all(follow=follow))
        return bool(parts)

    def _exit_code(self, pipeline: Pipeline, pod: Pod | None) -> int | None:
        """Returns the exit code. None: there may be more logs."""
        status = pipeline.status
        if not wait_results.up_to_date(pipeline):
            return None
        if status.condition(ConditionType.STALLED) or status.condition(ConditionType.SUSPENDED):
            self._session.note(
                f"{pipeline.name}: {formatting.one_line(formatting.state_message(status))}"
            )
            return 1
        if status.run is None or status.next_run_time is not None:
            return None
        if self._wanted is None:
            return 0 if status.run.initialized_time else None
        done = {entry.name for entry in status.run.completed_init_containers}
        app = pod is not None and self._wanted in {s.name for s in pod.container_statuses}
        return 0 if self._wanted in done or (app and self._printed) else None


def _is_current(pipeline: Pipeline, number: int) -> bool:
    return pipeline.status.run is not None and pipeline.status.run.number == number


def _record(pipeline: Pipeline, number: int) -> RunFacts:
    """Returns the run with this number. Raises NotFoundError."""
    runs = recorded_runs(pipeline.status)
    for run in runs:
        if run.number == number:
            return run
    numbers = ", ".join(str(run.number) for run in runs)
    which = f"has run{'s' if len(runs) > 1 else ''} {numbers}" if runs else "is empty"
    raise NotFoundError(f"run {number} is not in the history, which {which} (spec.runHistoryLimit)")


def _recorded(session: Session, record: RunFacts) -> int:
    """Prints what history records of a failed run, and a note that this is not a log."""
    recorded = record if isinstance(record, RunRecord) else None
    failed = recorded.failed_step if recorded else None
    result = record.result.value if record.result else "in progress"
    run = f"run {record.number} ({record.trigger}, {result})"
    note = f"{run}: its logs were deleted with its containers"
    if recorded is None or failed is None:
        session.note(f"{note}; history records no failed step")
        return 0
    wanted = session.options.step
    if wanted is not None and wanted != failed.name:
        raise NotFoundError(f'{note}; history records only the failed step, "{failed.name}"')
    how = formatting.exit_text(failed.exit_code, failed.signal, failed.reason)
    session.note(f'{note}; history records for step "{failed.name}" ({how or "no exit code"}):')
    _write_line(session, last_message(recorded) or "(no message)")
    return 0


def _read_pod(session: Session, target: Target, pipeline: Pipeline) -> Pod | None:
    with session.progress(f"reading the Pod {target.name}"):
        raw = session.cluster.find_pod(target.namespace, target.name)
    return _pod_of_run(pipeline, raw)


def _pod_of_run(pipeline: Pipeline, raw_pod: Raw | None) -> Pod | None:
    """Returns the Pod if it belongs to the current run. None: it does not, or there is no Pod."""
    pod = None if raw_pod is None else Pod.from_api(raw_pod)
    return log_parts.pod_of_run(Facts(pipeline, pod))


def _check_step(pipeline: Pipeline, pod: Pod | None, wanted: str | None) -> None:
    """Raises NotFoundError if no container has this name."""
    spec = pipeline.template["spec"]
    known = [container.name for container in init_containers(spec)]
    known += [container["name"] for container in spec["containers"]]
    known = list(dict.fromkeys([*known, *(log_parts.container_names(pod) if pod else [])]))
    if wanted is None or wanted in known:
        return
    near = get_close_matches(wanted, known, 3)
    hint = f"did you mean {', '.join(near)}?" if near else f"it has {', '.join(known)}"
    raise NotFoundError(f'InitPipeline "{pipeline.name}" has no step "{wanted}": {hint}')


def _print_log(session: Session, part: Part, log: Iterable[bytes]) -> None:
    """Prints the bytes of the log unchanged, or a note if the log is empty."""
    if session.out.is_terminal:
        session.start_line()
        session.out.print(Text(f"==> {part.title} <==", "bold"))
    missing = f"{part.title}; no output{' yet' if part.running else ''}"
    try:
        for chunk in log:
            session.write(chunk)
            missing = "" if chunk else missing
    except NotFoundError as error:
        missing = f"no log of {part.title}: {error}"
    if missing:
        session.note(missing)
        if part.termination_message:
            session.note("termination message:")
            _write_line(session, part.termination_message)


def _write_line(session: Session, text: str) -> None:
    session.write(f"{text}\n".encode(errors="replace"))
