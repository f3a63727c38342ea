"""The alert rules: each alert fires and clears, uses metrics of the operator, and has a runbook."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests import libyaml
from tests.monitoring.faults import ELSEWHERE, expected
from tests.monitoring.prometheus import promtool
from tests.monitoring.series import unknown

ROOT: Final = Path(__file__).parents[2]
RULES: Final = ROOT / "manifests" / "monitoring" / "alerts.yaml"
RUNBOOKS: Final = ROOT / "docs" / "runbooks.md"
RUNBOOK_URL: Final = "https://initpipeline.dev/docs/runbooks.md"
ALERTS: Final[Mapping[str, Mapping[str, Any]]] = {
    rule["alert"]: rule
    for group in libyaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
}

FAULT: Final = 90
"""Minutes for which a fault lasts. The longest alert waits for an hour."""
AFTER: Final = 120
TARGET: Final = 'job="initpipeline",instance="a"'
OTHER: Final = 'job="initpipeline",instance="b"'

Series = Mapping[str, str]


def gauge(fault: float, healthy: float) -> str:
    """Returns the samples of a gauge, one a minute."""
    return f"{fault}x{FAULT} {healthy}x{AFTER}"


def counter(fault: int, healthy: int) -> str:
    """Returns the samples of a counter that grows by these values a minute."""
    reached = fault * FAULT
    return f"0+{fault}x{FAULT} {reached + healthy}+{healthy}x{AFTER}"


def clock(lags: bool) -> str:
    """Returns the samples of a timestamp that follows the time of the test. With ``lags``, it does
    so only after the fault."""
    if not lags:
        return f"0+60x{FAULT + AFTER}"
    return f"1x{FAULT} {60 * (FAULT + 1)}+60x{AFTER}"


def slow(metric: str, fast: str, limit: str, labels: str = TARGET) -> Series:
    """Returns the buckets of a histogram: all durations exceed ``fast`` during the fault, and none
    exceeds it afterwards."""
    below = f'{metric}_bucket{{{labels},le="{fast}"}}'
    above = f'{metric}_bucket{{{labels},le="{limit}"}}'
    total = f'{metric}_bucket{{{labels},le="+Inf"}}'
    return {below: counter(0, 60), above: counter(60, 60), total: counter(60, 60)}


def requests(code: str, fault: int, verb: str = "PATCH", resource: str = "pods") -> Series:
    name = f'rest_client_requests_total{{{TARGET},verb="{verb}",resource="{resource}"'
    return {f'{name},code="{code}"}}': counter(fault, 0)}


QUEUE: Final = f'{TARGET},name="initpipeline"'

HEALTHY: Final[Series] = {
    f'initpipeline_build_info{{{TARGET},version="1"}}': gauge(1, 1),
    f'initpipeline_build_info{{{OTHER},version="1"}}': gauge(1, 1),
    f'leader_election_master_status{{{TARGET},name="lease"}}': gauge(1, 1),
    f'leader_election_master_status{{{OTHER},name="lease"}}': gauge(0, 0),
    f'initpipeline_watch_last_event_timestamp_seconds{{{TARGET},resource="pods"}}': clock(False),
    f"workqueue_depth{{{QUEUE}}}": gauge(0, 0),
    f"workqueue_longest_running_processor_seconds{{{QUEUE}}}": gauge(0, 0),
    f"workqueue_queue_duration_seconds_count{{{QUEUE}}}": counter(60, 60),
    **{
        f'{name}_bucket{{{TARGET},{extra}le="{le}"}}': counter(60, 60)
        for name, extra in (
            ("workqueue_queue_duration_seconds", 'name="initpipeline",'),
            ("initpipeline_event_loop_lag_seconds", ""),
            ("initpipeline_mirror_lag_seconds", ""),
        )
        for le in ("0.1", "60", "+Inf")
    },
    f'initpipeline_reconcile_total{{{TARGET},result="success"}}': counter(60, 60),
    f'rest_client_requests_total{{{TARGET},verb="PATCH",resource="pods",code="200"}}': counter(
        60, 60
    ),
    f'initpipeline_pod_create_duration_seconds_count{{{TARGET},code="201"}}': counter(60, 60),
    f'initpipeline_objects_not_understood{{{TARGET},resource="initpipelines"}}': gauge(0, 0),
    f'initpipeline_crd_skew_fields{{{TARGET},crd="older"}}': gauge(0, 0),
    f"process_resident_memory_bytes{{{TARGET}}}": gauge(70e6, 70e6),
    f"process_start_time_seconds{{{TARGET}}}": gauge(0, 0),
    f'initpipeline_pipelines{{{TARGET},condition="Stalled",status="False",reason=""}}': gauge(9, 9),
    # The first runs of new InitPipelines are not re-runs.
    f'initpipeline_runs_started_total{{{TARGET},trigger="Created"}}': counter(60, 60),
    f'initpipeline_sweep_last_success_timestamp_seconds{{{TARGET},resource="pods"}}': clock(False),
    f'initpipeline_sweep_last_success_timestamp_seconds{{{OTHER},resource="pods"}}': clock(False),
    f'initpipeline_events_total{{{TARGET},outcome="posted"}}': counter(60, 60),
}
"""A leader that works, and a standby."""

FOREIGN: Final[Series] = {
    'leader_election_master_status{job="other",instance="c",name="lease"}': gauge(0, 0),
    'workqueue_depth{job="other",instance="c",name="initpipeline"}': gauge(9, 9),
    'workqueue_longest_running_processor_seconds{job="other",instance="c",name="initpipeline"}': (
        gauge(999, 999)
    ),
    'rest_client_requests_total{job="other",instance="c",verb="GET",resource="x",code="403"}': (
        counter(60, 60)
    ),
    'rest_client_requests_total{job="other",instance="c",verb="GET",resource="x",code="429"}': (
        counter(60, 60)
    ),
    'rest_client_requests_total{job="other",instance="c",verb="GET",resource="x",code="500"}': (
        counter(60, 60)
    ),
    'process_resident_memory_bytes{job="other",instance="c"}': gauge(9e9, 9e9),
}
"""Another controller, whose faults are not those of the operator."""

ABSENT: Final = f"_x{FAULT} 1x{AFTER}"
LEADER: Final = f'leader_election_master_status{{{TARGET},name="lease"}}'
SWEEP: Final = f'initpipeline_sweep_last_success_timestamp_seconds{{{TARGET},resource="pods"}}'
NEVER: Final = f"_x{FAULT} {60 * (FAULT + 1)}+60x{AFTER}"
"""The samples of a timestamp that exists only after the fault."""
BUILD: Final = f'initpipeline_build_info{{{TARGET},version="1"}}'
STANDBY: Final = f'initpipeline_build_info{{{OTHER},version="1"}}'

FAULTS: Final[Mapping[str, tuple[str, Series]]] = {
    "no replica": ("NotRunning", {BUILD: ABSENT, STANDBY: ABSENT}),
    "one replica of two": ("ReplicaDown", {STANDBY: ABSENT}),
    "no leader": ("NoLeader", {LEADER: gauge(0, 1)}),
    "two leaders": (
        "TwoLeaders",
        {f'leader_election_master_status{{{OTHER},name="lease"}}': gauge(1, 0)},
    ),
    "silent watch": (
        "WatchStale",
        {
            f'initpipeline_watch_last_event_timestamp_seconds{{{TARGET},resource="pods"}}': clock(
                True
            )
        },
    ),
    "leader that has never listed": (
        "WatchStale",
        {
            f'initpipeline_watch_last_event_timestamp_seconds{{{TARGET},resource="pods"}}': (
                f"0x{FAULT} {60 * (FAULT + 1)}+60x{AFTER}"
            )
        },
    ),
    "old keys": ("QueueOld", slow("workqueue_queue_duration_seconds", "0.1", "60", QUEUE)),
    "no key is taken": (
        "QueueOld",
        {
            f"workqueue_depth{{{QUEUE}}}": gauge(9, 0),
            f"workqueue_queue_duration_seconds_count{{{QUEUE}}}": counter(0, 60),
        },
    ),
    "stuck reconcile": (
        "ReconcileStuck",
        {f"workqueue_longest_running_processor_seconds{{{QUEUE}}}": gauge(301, 0)},
    ),
    "errors": (
        "ReconcileErrors",
        {f'initpipeline_reconcile_total{{{TARGET},result="error"}}': counter(6, 0)},
    ),
    "exceptions": (
        "ReconcileErrors",
        {f'initpipeline_reconcile_total{{{TARGET},result="poisoned"}}': counter(6, 0)},
    ),
    "429": ("APIThrottled", requests("429", 6)),
    "500": ("APIErrors", requests("500", 6)),
    "no response": ("APIErrors", requests("<error>", 6)),
    "403": ("APIForbidden", requests("403", 1, "GET")),
    "401": ("APIForbidden", requests("401", 1, "PUT", "leases")),
    "quota": (
        "PodsRefused",
        {
            f'initpipeline_pod_create_duration_seconds_count{{{TARGET},code="403"}}': counter(1, 0),
            **requests("403", 1, "POST"),
        },
    ),
    "webhook": (
        "PodsRefused",
        {
            f'initpipeline_pod_create_duration_seconds_count{{{TARGET},code="500"}}': counter(9, 0),
            **requests("500", 9, "POST"),
        },
    ),
    "unreadable": (
        "ObjectsUnreadable",
        {f'initpipeline_objects_not_understood{{{TARGET},resource="initpipelines"}}': gauge(1, 0)},
    ),
    "blocked loop": (
        "EventLoopBlocked",
        slow("initpipeline_event_loop_lag_seconds", "0.1", "60"),
    ),
    "memory": ("MemoryNear", {f"process_resident_memory_bytes{{{TARGET}}}": gauge(450e6, 70e6)}),
    "stalled": (
        "Stalled",
        {
            f'initpipeline_pipelines{{{TARGET},condition="Stalled",status="True",reason="X"}}': (
                gauge(1, 0)
            )
        },
    ),
    "many runs": (
        "RerunStorm",
        {f'initpipeline_runs_started_total{{{TARGET},trigger="PodLost"}}': counter(11, 0)},
    ),
    "old sweep": ("NoSweep", {SWEEP: clock(True)}),
    "never a sweep": ("NoSweep", {SWEEP: NEVER}),
    "never a sweep of Pods": (
        "NoSweep",
        {SWEEP: NEVER, SWEEP.replace("pods", "initpipelines"): clock(False)},
    ),
    "dropped events": (
        "EventsDropped",
        {f'initpipeline_events_total{{{TARGET},outcome="dropped"}}': counter(1, 0)},
    ),
    "late status": ("MirrorLag", slow("initpipeline_mirror_lag_seconds", "0.1", "60")),
    "a CRD of another version": (
        "CRDSkew",
        {f'initpipeline_crd_skew_fields{{{TARGET},crd="older"}}': gauge(2, 0)},
    ),
    "two versions": (
        "VersionsDiffer",
        {
            STANDBY: ABSENT,
            f'initpipeline_build_info{{{OTHER},version="2"}}': f"1x{FAULT} _x{AFTER}",
        },
    ),
}
"""The alert of each fault, and the series that differ from HEALTHY while it lasts."""

QUIET: Final[Mapping[str, Series]] = {
    "healthy": {},
    "a standby whose queue is not taken": {
        f'workqueue_depth{{{OTHER},name="initpipeline"}}': gauge(9, 9),
        f'workqueue_queue_duration_seconds_count{{{OTHER},name="initpipeline"}}': counter(0, 0),
        f"process_start_time_seconds{{{OTHER}}}": gauge(0, 0),
    },
    "a cold standby, which watches nothing": {
        f'initpipeline_watch_last_event_timestamp_seconds{{{OTHER},resource="pods"}}': gauge(0, 0),
    },
    "a cold standby, which does not sweep": {SWEEP.replace(TARGET, OTHER): clock(True)},
    "a user's Pod is refused once": {
        f'initpipeline_pod_create_duration_seconds_count{{{TARGET},code="403"}}': (
            f"0x50 1x{FAULT + AFTER - 50}"
        ),
        **dict.fromkeys(requests("403", 0, "POST"), f"0x50 1x{FAULT + AFTER - 50}"),
    },
    "conflicts": {
        f'initpipeline_reconcile_total{{{TARGET},result="requeue"}}': counter(60, 60),
        **requests("409", 60),
        f'initpipeline_pod_create_duration_seconds_count{{{TARGET},code="409"}}': counter(9, 9),
    },
}
"""Series for which no alert fires."""


def check(folder: Path, faults: Series, expected: Mapping[int, Counter[str]]) -> None:
    """Check which alerts fire in these minutes, with promtool."""
    series = {**HEALTHY, **FOREIGN, **faults}
    checks = [
        {
            "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
            "eval_time": f"{minute}m",
            "exp_samples": [
                {"labels": f'{{alertname="InitPipeline{name}"}}', "value": number}
                for name, number in sorted(alerts.items())
            ],
        }
        for minute, alerts in expected.items()
    ]
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": value} for name, value in series.items()],
        "promql_expr_test": checks,
    }
    document = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}
    file = folder / "rules.yaml"
    file.write_text(yaml.safe_dump(document))
    answer = promtool("test", "rules", str(file))
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("fault", FAULTS)
def test_alert_fires_during_its_fault_and_clears(fault: str, tmp_path: Path) -> None:
    alert, series = FAULTS[fault]
    expected = {FAULT - 1: Counter({alert: 1}), FAULT + AFTER - 1: Counter[str]()}
    check(tmp_path, series, expected)


@pytest.mark.parametrize("name", QUIET)
def test_no_alert_fires_without_a_fault(name: str, tmp_path: Path) -> None:
    minutes = range(2, FAULT + AFTER, 10)
    check(tmp_path, QUIET[name], {minute: Counter() for minute in minutes})


def test_each_alert_has_a_fault() -> None:
    assert {f"InitPipeline{alert}" for alert, _ in FAULTS.values()} == set(ALERTS)


def test_each_alert_has_a_real_fault_or_a_reason() -> None:
    produced = {alert for _, alert in expected()}
    assert {f"InitPipeline{alert}" for alert in (*produced, *ELSEWHERE)} == set(ALERTS)
    assert not produced & ELSEWHERE.keys()


def test_promtool_accepts_the_rules() -> None:
    answer = promtool("check", "rules", "--lint-fatal", str(RULES))
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_each_alert_has_texts_and_a_runbook() -> None:
    headings = re.findall(r"^## (\w+)$", RUNBOOKS.read_text(), re.MULTILINE)
    assert headings == list(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"] == f"{RUNBOOK_URL}#{name.lower()}"


def test_runbooks_list_each_alert_by_severity() -> None:
    rows = re.findall(
        r"^\| (critical|warning|info) \| (.+) \|$", RUNBOOKS.read_text(), re.MULTILINE
    )
    listed = {
        f"InitPipeline{name}": (severity, anchor)
        for severity, alerts in rows
        for name, anchor in re.findall(r"\[(\w+)\]\(#(\w+)\)", alerts)
    }
    assert listed == {
        name: (rule["labels"]["severity"], name.lower()) for name, rule in ALERTS.items()
    }


def test_each_runbook_has_all_parts() -> None:
    sections = re.split(r"^## ", RUNBOOKS.read_text(), flags=re.MULTILINE)[1:]
    for section in sections:
        for part in ("**Meaning.**", "**Impact.**", "```console\n$ ", "**What to do.**"):
            assert part in section, (section.splitlines()[0], part)


def deployment() -> dict[str, Any]:
    """Returns the Deployment of manifests/base."""
    manifest = (ROOT / "manifests" / "base" / "deployment.yaml").read_text()
    found: dict[str, Any] = next(iter(libyaml.safe_load_all(manifest)))
    return found


def test_number_of_replicas_is_that_of_the_manifest() -> None:
    replicas = deployment()["spec"]["replicas"]
    assert ALERTS["InitPipelineReplicaDown"]["expr"].endswith(f" < {replicas}")


def test_memory_limit_is_that_of_the_manifest() -> None:
    [container] = deployment()["spec"]["template"]["spec"]["containers"]
    limit = container["resources"]["limits"]["memory"]
    assert limit == "512Mi"
    assert ALERTS["InitPipelineMemoryNear"]["expr"].endswith(" > 0.8 * 512 * 1024^2")


@pytest.mark.parametrize("alert", ALERTS)
def test_expression_uses_only_metrics_and_labels_of_the_operator(alert: str) -> None:
    assert unknown(str(ALERTS[alert]["expr"])) == set()
