"""The operator posts events on the pipeline, which kubectl describe prints."""

from kubernetes import client

from tests.e2e.e2e_env import E2EEnv
from tests.operator_process import OperatorProcess
from tests.statuses import status_of
from tests.templates import container, template


def events(env: E2EEnv) -> list[tuple[str, str]]:
    """Return reason and note of the pipeline's events, in the order of their times."""
    listed = client.EventsV1Api(env.api).list_namespaced_event(
        env.namespace, field_selector="regarding.kind=InitPipeline"
    )
    return [(e.reason, e.note) for e in sorted(listed.items, key=lambda e: e.event_time)]


def test_events_of_a_stalled_pipeline_are_complete_and_ordered(
    env: E2EEnv,
    operator: OperatorProcess,
) -> None:
    steps = container("fine", "true"), container("broken", "echo no such table >&2; exit 3")
    env.create("demo", template(*steps, restartPolicy="Never"), backoffLimit=1)
    env.pipelines.wait("demo", "given up", lambda state: status_of(state, "Stalled") == "True")
    operator.stop()  # It posts the pending events before it ends.

    failed = 'init container 2 of 2 "broken" exited with 3: no such table'
    assert events(env) == [
        ("RunStarted", "run 1 started (Created): the InitPipeline is new"),
        ("StepFailed", f"run 1: {failed}"),
        ("RunFailed", f"run 1 failed: {failed}"),
        ("RunStarted", "run 2 started (Retry): the run before it failed"),
        ("StepFailed", f"run 2: {failed}"),
        ("RunFailed", f"run 2 failed: {failed}"),
        (
            "GivenUp",
            f"2 runs have failed, and backoffLimit is 1: {failed}. To continue: change the "
            "template, request a run, or raise backoffLimit to 2",
        ),
    ]
