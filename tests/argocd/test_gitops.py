"""A real Argo CD syncs a directory of InitPipelines from git."""

import pytest

from initpipeline.api import names
from tests.argocd.applications import Application
from tests.cluster.cluster import Cluster
from tests.e2e.e2e_env import E2EEnv
from tests.statuses import message_of, run_number, runs, status_of
from tests.templates import container, template, two_steps

pytestmark = pytest.mark.argocd

HEALTHY = ("Synced", "Healthy")

SYNCS = [
    pytest.param((), "", id="client-side"),
    pytest.param(("ServerSideApply=true",), "", id="server-side-apply"),
    pytest.param(("ServerSideApply=true",), "ServerSideDiff=true", id="server-side-diff"),
]
"""How Argo CD applies and compares. Each combination can report different differences."""


def test_application_is_progressing_and_then_healthy(application: Application) -> None:
    application.write("shop", two_steps())
    application.write("bar", template(container("only", "sleep 1")))
    application.write("job", template(container("a", "true"), app="true", restartPolicy="Never"))

    application.create()
    application.wait(*HEALTHY)

    assert application.pipelines() == ["bar", "job", "shop"]
    healths = [health for sync, health in application.states() if sync == "Synced"]
    assert healths[0] == "Progressing", healths


def test_health_names_the_running_step_after_refresh(application: Application, env: E2EEnv) -> None:
    application.write("shop", template(container("one", "true"), container("two", "sleep 60")))
    application.create()
    application.wait("Synced", "Progressing")
    step = 'init container 2 of 2 "two" is running'
    env.pipelines.wait("shop", step, lambda state: message_of(state, "Ready") == step)

    expected = {"status": "Progressing", "message": f"StepRunning: {step}"}
    application.wait_health("shop", lambda health: health == expected)


def test_given_up_pipeline_is_degraded_with_its_message(
    application: Application,
) -> None:
    step = container("migrate", "echo the schema is locked; exit 3")
    application.write("shop", template(step, restartPolicy="Never"))

    application.create()
    application.wait("Synced", "Degraded")

    assert application.argo_cd.health(application.name, "shop") == {
        "status": "Degraded",
        "message": "BackoffLimitExceeded: 1 run has failed, and backoffLimit is 0: init container "
        '1 of 1 "migrate" exited with 3: the schema is locked. To continue: change the template, '
        "request a run, or raise backoffLimit to 1",
    }


@pytest.mark.parametrize(("options", "compare"), SYNCS)
def test_application_stays_synced_through_runs_of_all_kinds(
    application: Application,
    env: E2EEnv,
    cluster: Cluster,
    options: tuple[str, ...],
    compare: str,
) -> None:
    """Runs are started by the operator, by the kubelet, and by a user with an action."""
    application.write("shop", two_steps())
    application.create(*options, compare=compare)
    began = application.wait(*HEALTHY)

    env.delete_pod("shop")
    env.wait_ready("shop", run=2)
    cluster.kill_sandbox(env.namespace, "shop")
    env.wait_ready("shop", run=3)
    application.act("shop", "rerun")
    state = env.wait_ready("shop", run=4)
    refreshed = application.refresh()
    application.wait(*HEALTHY, since=refreshed - 1)

    assert [trigger for _, trigger, _ in runs(state)] == [
        "Created",
        "PodLost",
        "PodRestarted",
        "Requested",
    ]
    assert {sync for sync, _ in application.states(began)} == {"Synced"}
    assert names.RERUN_ANNOTATION in env.pipeline("shop")["metadata"]["annotations"]


@pytest.mark.parametrize(("options", "compare"), SYNCS)
def test_actions_suspend_and_resume_without_out_of_sync(
    application: Application, env: E2EEnv, options: tuple[str, ...], compare: str
) -> None:
    """Git does not set suspend, so self-heal does not revert it."""
    argo_cd, place = application.argo_cd, (application.name, application.name, "shop")
    application.write("shop", two_steps())
    application.create(*options, compare=compare)
    began = application.wait(*HEALTHY)
    assert argo_cd.actions(*place) == {"rerun": True, "suspend": True, "resume": False}

    application.act("shop", "suspend")
    application.wait("Synced", "Suspended", since=began)
    suspended = application.refresh()
    assert argo_cd.actions(*place) == {"rerun": False, "suspend": False, "resume": True}

    application.act("shop", "resume")
    application.wait(*HEALTHY, since=suspended)

    assert runs(env.pipeline("shop"))[1:] == [(2, "Resumed", "")]
    assert {sync for sync, _ in application.states(began)} == {"Synced"}


def test_suspend_action_is_reverted_if_git_sets_suspend_to_false(
    application: Application, env: E2EEnv
) -> None:
    application.write("shop", two_steps(), suspend=False)
    application.create()
    application.wait(*HEALTHY)

    application.act("shop", "suspend")

    wait_for_spec(env, generation=2, suspend=True)
    wait_for_spec(env, generation=3, suspend=False)


def test_changed_spec_is_reverted_by_self_heal(application: Application, env: E2EEnv) -> None:
    application.write("shop", two_steps(), backoffLimit=2)
    application.create()
    began = application.wait(*HEALTHY)

    env.set("shop", backoffLimit=7)

    wait_for_spec(env, generation=3, backoffLimit=2)
    application.wait(*HEALTHY, since=began)
    assert "OutOfSync" in {sync for sync, _ in application.states(began)}
    assert run_number(env.pipeline("shop")) == 1


def test_pipeline_removed_from_git_is_pruned_with_its_pod(
    application: Application, env: E2EEnv
) -> None:
    application.write("shop", two_steps())
    application.write("bar", two_steps())
    application.create()
    application.wait(*HEALTHY)

    application.repository.remove(application.name, "bar")
    application.refresh()

    for watch_log in (env.pods, env.pipelines):
        watch_log.wait("bar", "it is gone", lambda state: state["event"] == "DELETED")
    assert application.pipelines() == ["shop"]


def test_template_changed_in_git_starts_a_run(application: Application, env: E2EEnv) -> None:
    application.write("shop", two_steps())
    application.create()
    began = application.wait(*HEALTHY)

    application.write("shop", template(container("one", "sleep 1"), container("new", "sleep 1")))
    application.refresh()
    state = env.wait_ready("shop", run=2)
    application.wait(*HEALTHY, since=began)

    assert runs(state) == [(1, "Created", "Initialized"), (2, "SpecChanged", "")]
    assert ("Synced", "Progressing") in application.states(began)
    assert status_of(env.pipeline("shop"), "Ready") == "True"


def test_sync_continues_once_hook_is_healthy(application: Application, env: E2EEnv) -> None:
    step = template(container("migrate", "sleep 1"), app="true", restartPolicy="Never")
    application.write("migrate", step, annotations={"argocd.argoproj.io/hook": "PreSync"})
    application.write("shop", two_steps())

    application.create()
    application.wait(*HEALTHY)

    ready = [
        (state["metadata"]["name"], status_of(state, "Ready")) for state in env.pipelines.states
    ]
    order = [name for name, _ in ready]
    assert ("migrate", "True") in ready[: order.index("shop")]


def wait_for_spec(env: E2EEnv, generation: int, **fields: object) -> None:
    """Waits until the pipeline has this generation and its spec has these fields."""
    env.pipelines.wait(
        "shop",
        f"{fields} in generation {generation}",
        lambda state: (
            state["metadata"]["generation"] == generation
            and fields.items() <= state["spec"].items()
        ),
    )
