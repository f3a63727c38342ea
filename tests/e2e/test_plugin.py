"""The plugin's commands on a real pipeline that fails, is repaired and runs again."""

import json

import pytest
from kubernetes import client

from initpipeline.api.raw import Raw
from tests.e2e.e2e_env import E2EEnv
from tests.e2e.test_injection import injecting
from tests.plugin import Call
from tests.statuses import reason_of, run_number, status_of
from tests.templates import container, template

FINE = container("fine", "echo all is well")
BROKEN = container("broken", "(echo trying; echo no such table) >&2; exit 3")
REPAIRED = container("broken", "echo trying; sleep 1; echo done")


@pytest.mark.usefixtures("operator")
def test_failed_pipeline_is_inspected_repaired_and_run_again(env: E2EEnv, call: Call) -> None:
    env.create("demo", template(FINE, BROKEN, restartPolicy="Never"))
    env.pipelines.wait("demo", "Stalled", lambda state: status_of(state, "Stalled") == "True")

    code, out, _ = call("status", "demo")
    assert code == 1
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0].endswith(" Stalled StepFailed 1/2")
    assert lines[1].endswith(
        '"broken" exited with 3: trying / no such table. To continue: change the template, request '
        "a run, or raise backoffLimit to 1"
    )
    assert "2 broken failed" in lines[4]
    assert "exit 3, trying / no such table" in lines[4]

    assert call("logs", "demo") == (0, "all is well\ntrying\nno such table\n", "")
    assert call("logs", "demo", "fine")[1] == "all is well\n"

    _, out, _ = call("history", "demo", "-o", "json")
    [run] = json.loads(out)
    assert (run["trigger"], run["result"], run["failedStep"]["name"]) == (
        "Created",
        "Failed",
        "broken",
    )

    _, out, _ = call("explain", "demo", "-o", "json")
    report = json.loads(out)
    assert report["operator"]["absent"] is None
    assert report["whatHappensNext"] == ["no run starts until a user takes action"]
    assert report["whatYouCanDo"][-1]["effect"] == "start run 2 now"

    env.set("demo", template=template(FINE, REPAIRED, restartPolicy="Never"))
    code, _, err = call("rerun", "demo", "--wait", "--timeout", "50s")
    assert code == 0, err
    assert err.splitlines()[-1].endswith("is Ready: the Pod is Ready")

    code, out, err = call("logs", "demo", "--run", "1")
    assert (code, out) == (0, "trying\nno such table\n")
    assert "its logs were deleted with its containers" in err


@pytest.mark.usefixtures("operator")
def test_logs_follow_all_attempts_and_steps(env: E2EEnv, call: Call) -> None:
    flaky = container(
        "flaky",
        "echo attempt; test -e /data/seen && exit 0; touch /data/seen; exit 1",
        volumeMounts=[{"name": "data", "mountPath": "/data"}],
    )
    last = container("last", "echo one; sleep 1; echo two")
    env.create("demo", template(flaky, last, volumes=[{"name": "data", "emptyDir": {}}]))
    assert call("logs", "demo", "-f") == (0, "attempt\nattempt\none\ntwo\n", "")


@pytest.mark.usefixtures("operator")
def test_status_watch_ends_when_the_pipeline_is_ready(env: E2EEnv, call: Call) -> None:
    """Without a terminal it prints a line for each change, and finally the tree."""
    env.create("demo", template(container("only", "sleep 1")))
    env.pipelines.wait("demo", "its first run", lambda state: run_number(state) == 1)
    code, out, err = call("status", "demo", "--watch")
    assert code == 0, err
    assert out.splitlines()[0].endswith("Ready  PodReady  1/1")
    assert err.splitlines()[-1].endswith("Ready 1/1 PodReady: the Pod is Ready")


@pytest.mark.usefixtures("operator")
def test_status_watch_ends_when_the_suspended_pipeline_has_no_pod(env: E2EEnv, call: Call) -> None:
    env.create_ready("demo", template(container("only", "sleep 1")))
    assert call("suspend", "demo")[0] == 0
    code, out, _ = call("status", "demo", "--watch")
    assert code == 1
    assert out.splitlines()[0].endswith("Suspended  Suspended  0/1")
    with pytest.raises(client.ApiException, match="404"):
        env.pod("demo")


def failed_twice(state: Raw) -> bool:
    # The kubelet reports CrashLoopBackOff only shortly before it ends.
    [step] = state.get("status", {}).get("initContainerStatuses", [{}])
    return reason_of(state, "Ready") == "StepFailed" and step.get("restartCount") == 1


@pytest.mark.usefixtures("operator")
def test_explain_names_the_next_action(env: E2EEnv, call: Call) -> None:
    env.create("demo", template(BROKEN), initDeadlineSeconds=300)
    env.pipelines.wait("demo", "failed twice, so that the kubelet waits", failed_twice)
    report = json.loads(call("explain", "demo", "-o", "json")[1])
    assert report["operator"] == {"absent": None, "undone": []}
    assert report["whatHappensNext"][0].startswith('the kubelet starts "broken" again')
    assert [limit["name"] for limit in report["limits"]] == ["initDeadlineSeconds"]


@pytest.mark.usefixtures("operator")
def test_escape_sequences_of_a_step_are_only_in_the_mirror(env: E2EEnv, call: Call) -> None:
    """The mirror is verbatim. All other fields, events and outputs omit escape sequences."""
    coloured = container("migrate", r"printf '\033[1;31mFATAL\033[0m no such table\n' >&2; exit 3")
    env.create("demo", template(coloured, restartPolicy="Never"))
    state = env.pipelines.wait(
        "demo", "Stalled", lambda state: status_of(state, "Stalled") == "True"
    )
    [mirror] = state["status"].pop("initContainerStatuses")
    assert mirror["state"]["terminated"]["message"] == "\x1b[1;31mFATAL\x1b[0m no such table\n"
    assert "\\u001b" not in json.dumps(state["status"])
    assert "FATAL no such table" in state["status"]["history"][0]["failedStep"]["message"]
    events = client.CoreV1Api(env.api).list_namespaced_event(env.namespace).items
    ours = [event.message for event in events if event.involved_object.kind == "InitPipeline"]
    assert ours
    assert all("\x1b" not in note for note in ours)
    for command in ("status", "explain", "history", "timeline"):
        assert "\x1b" not in call(command, "demo")[1]


@pytest.mark.usefixtures("operator")
def test_injected_sidecar_is_shown_as_sidecar(env: E2EEnv, call: Call) -> None:
    """The injected containers are in the Pod's spec, but not in the template."""
    with injecting(env):
        env.create("demo", template(container("migrate", "exec sleep 3600")))
        env.pipelines.wait(
            "demo",
            "its own step runs",
            lambda state: (
                reason_of(state, "Ready") == "StepRunning"
                and state["status"]["currentStep"] == "migrate"
            ),
        )
        report = json.loads(call("status", "demo", "-o", "json")[1])
    assert {step["name"]: step["sidecar"] for step in report["steps"]} == {
        "fetch-secrets": False,
        "proxy": True,
        "migrate": False,
    }
    assert report["next"] == "migrate, then the app containers"
    rows = json.loads(call("timeline", "demo", "-o", "json")[1])["sections"][1]["rows"]
    assert [row["label"] for row in rows] == ["fetch-secrets", "proxy (sidecar)", "migrate"]
    assert call("logs", "demo", "proxy")[0] == 0
