"""Conversion of a workload: what is carried over, which notes it has, and what is refused."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest

from initpipeline.api.raw import Raw
from initpipeline.plugin.wrap.fields import METADATA_FIELDS, SPEC_FIELDS, FieldHandling, FieldRule
from initpipeline.plugin.wrap.rules import CannotWrapError
from initpipeline.plugin.wrap.workloads import WrapOptions, Wrapped, is_workload, wrap

STEP = {"name": "step", "image": "busybox"}
APP = {"name": "app", "image": "nginx"}
POD_SPEC: Raw = {"initContainers": [STEP], "containers": [APP]}
TEMPLATE: Raw = {"metadata": {"labels": {"app": "a"}}, "spec": POD_SPEC}
GROUPS = {"Pod": "v1", "Job": "batch/v1", "CronJob": "batch/v1"}


def workload(kind: str, /, metadata: Raw | None = None, **spec: Any) -> Raw:
    """Returns a workload of that kind named "a", with these fields in its spec."""
    return {
        "apiVersion": GROUPS.get(kind, "apps/v1"),
        "kind": kind,
        "metadata": {"name": "a", **(metadata or {})},
        "spec": {"template": TEMPLATE, **spec} if kind not in {"Pod", "CronJob"} else spec,
    }


def pod(metadata: Raw | None = None, **spec: Any) -> Raw:
    return workload("Pod", metadata, **{**POD_SPEC, **spec})


def job(metadata: Raw | None = None, **spec: Any) -> Raw:
    return workload("Job", metadata, **spec)


def cron_job(metadata: Raw | None = None, *, suspend: bool | None = None, **of_job: Any) -> Raw:
    inner = {"spec": {"template": TEMPLATE, **of_job}}
    return workload("CronJob", metadata, schedule="@daily", suspend=suspend, jobTemplate=inner)


def stateful_set(metadata: Raw | None = None, **spec: Any) -> Raw:
    return workload("StatefulSet", metadata, serviceName="peers", **spec)


def template_with(**fields: Any) -> Raw:
    """Returns TEMPLATE with these fields added to its Pod spec."""
    return {**TEMPLATE, "spec": {**POD_SPEC, **fields}}


def notes(wrapped: Wrapped) -> str:
    return "\n".join(wrapped.notes)


def policies(wrapped: Wrapped) -> Raw:
    return {key: value for key, value in wrapped.pipeline["spec"].items() if key != "template"}


def pod_spec(wrapped: Wrapped) -> Raw:
    spec: Raw = wrapped.pipeline["spec"]["template"]["spec"]
    return spec


ALL = [
    pytest.param(pod(), id="Pod"),
    pytest.param(workload("Deployment"), id="Deployment"),
    pytest.param(workload("DaemonSet"), id="DaemonSet"),
    pytest.param(workload("StatefulSet"), id="StatefulSet"),
    pytest.param(job(), id="Job"),
    pytest.param(cron_job(), id="CronJob"),
]


class TestEachKind:
    @pytest.mark.parametrize("manifest", ALL)
    def test_containers_are_carried_over_and_the_input_is_unchanged(self, manifest: Raw) -> None:
        before = copy.deepcopy(manifest)
        wrapped = wrap(manifest)
        assert wrapped.pipeline["apiVersion"] == "initpipeline.dev/v1alpha1"
        assert wrapped.pipeline["kind"] == "InitPipeline"
        assert wrapped.pipeline["metadata"] == {"name": "a"}
        assert pod_spec(wrapped).items() >= POD_SPEC.items()
        assert manifest == before, "the input is not changed"

    @pytest.mark.parametrize("manifest", ALL[1:3] + ALL[4:])
    def test_template_is_carried_over_verbatim(self, manifest: Raw) -> None:
        assert wrap(manifest).pipeline["spec"]["template"] == TEMPLATE

    @pytest.mark.parametrize("manifest", ALL)
    def test_supported_kind_is_a_workload(self, manifest: Raw) -> None:
        assert is_workload(manifest)

    @pytest.mark.parametrize(
        ("version", "kind"),
        [
            ("v1", "Service"),
            ("batch.volcano.sh/v1alpha1", "Job"),
            ("apps/v1", "Pod"),
            ("initpipeline.dev/v1alpha1", "InitPipeline"),
        ],
    )
    def test_kind_of_another_api_group_is_not_a_workload(self, version: str, kind: str) -> None:
        assert not is_workload({"apiVersion": version, "kind": kind})

    @pytest.mark.parametrize("manifest", ALL)
    def test_note_names_the_policy_for_app_restarts(self, manifest: Raw) -> None:
        assert "OnPodLoss" in notes(wrap(manifest))

    def test_pod_with_restart_policy_never_has_no_note_on_restarts(self) -> None:
        assert "OnPodLoss" not in notes(wrap(pod(restartPolicy="Never")))


class TestIdentity:
    def test_namespace_labels_and_annotations_are_carried_over(self) -> None:
        metadata = {"namespace": "n", "labels": {"l": "1"}, "annotations": {"a": "1"}}
        wrapped = wrap(workload("Deployment", metadata))
        assert wrapped.pipeline["metadata"] == {"name": "a", **metadata}

    def test_fields_set_by_the_api_server_are_dropped(self) -> None:
        metadata = {
            "uid": "1",
            "resourceVersion": "1",
            "generation": 2,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{}],
            "finalizers": ["x/y"],
            "annotations": {"deployment.kubernetes.io/revision": "1"},
        }
        assert wrap(workload("Deployment", metadata)).pipeline["metadata"] == {"name": "a"}

    def test_name_option_renames_the_pipeline_but_not_the_old_workload(self) -> None:
        wrapped = wrap(workload("Deployment"), WrapOptions(name="b"))
        assert wrapped.pipeline["metadata"]["name"] == "b"
        assert "scale deployment a " in notes(wrapped), "the workload keeps its name"

    @pytest.mark.parametrize(
        ("manifest", "command"),
        [(workload("Deployment", replicas=0), "resume b"), (cron_job(), "rerun b")],
        ids=["suspended", "scheduled"],
    )
    def test_commands_in_notes_use_the_name_of_the_pipeline(
        self, manifest: Raw, command: str
    ) -> None:
        assert f"kubectl initpipeline {command}" in notes(wrap(manifest, WrapOptions(name="b")))

    def test_workload_with_a_generated_name_has_no_stop_command(self) -> None:
        manifest = workload("Deployment", {"name": None, "generateName": "a-"})
        assert "None" not in notes(wrap(manifest))

    def test_generate_name_is_carried_over(self) -> None:
        manifest = job({"name": None, "generateName": "a-"})
        assert wrap(manifest).pipeline["metadata"] == {"generateName": "a-"}

    @pytest.mark.parametrize("length", [63, 64])
    def test_name_longer_than_a_dns_label_is_refused(self, length: int) -> None:
        manifest = workload("Deployment", {"name": "a" * length})
        if length == 63:
            assert wrap(manifest)
            return
        with pytest.raises(CannotWrapError, match=r"at most 63 characters, not 64: .*--name"):
            wrap(manifest)


@pytest.mark.parametrize(
    ("metadata", "kept"),
    [({}, True), ({"uid": "1"}, False)],
    ids=["written", "read from a cluster"],
)
def test_message_policy_default_is_dropped_only_if_read_from_a_cluster(
    metadata: Raw, kept: bool
) -> None:
    step = {**STEP, "terminationMessagePolicy": "File"}
    manifest = workload("Deployment", metadata, template=template_with(initContainers=[step]))
    assert ("terminationMessagePolicy" in pod_spec(wrap(manifest))["initContainers"][0]) is kept


class TestRefusedWorkload:
    @pytest.mark.parametrize(
        ("manifest", "message"),
        [
            pytest.param({**pod(), "spec": None}, "has no spec", id="no spec"),
            pytest.param({"kind": "Pod", "spec": {}}, "has no metadata", id="no metadata"),
            pytest.param(
                workload("Deployment", template=None), "no Pod template", id="no template"
            ),
            pytest.param(pod({"name": None}), "no name: give one with --name", id="no name"),
            pytest.param(pod(initContainers=[]), "no init containers", id="no steps"),
            pytest.param(
                pod(initContainers=[{**STEP, "restartPolicy": "Always"}]),
                "only sidecars",
                id="only sidecars",
            ),
            pytest.param(
                pod(initContainers=None, containers=[APP, {"name": "other"}]),
                r"--init-container \(app, other\)",
                id="no steps, several containers",
            ),
            pytest.param(job(completions=3), "several Pods", id="completions"),
            pytest.param(job(parallelism=2), "several Pods", id="parallelism"),
            pytest.param(cron_job(parallelism=2), "several Pods", id="parallelism of a CronJob"),
            pytest.param(
                pod({"ownerReferences": [{"kind": "ReplicaSet", "name": "r", "controller": True}]}),
                'created by ReplicaSet "r"',
                id="Pod of a controller",
            ),
        ],
    )
    def test_unsupported_workload_is_refused_with_the_reason(
        self, manifest: Raw, message: str
    ) -> None:
        with pytest.raises(CannotWrapError, match=message):
            wrap(manifest)

    def test_stateful_set_without_a_name_is_refused_even_with_the_name_option(self) -> None:
        with pytest.raises(CannotWrapError, match="the names of its claims are unknown"):
            wrap(stateful_set({"name": None}), WrapOptions(name="b"))


class TestInitContainer:
    TWO = pod(containers=[{**APP, "readinessProbe": {}, "lifecycle": {}}, {"name": "other"}])

    def test_chosen_container_becomes_the_last_init_container(self) -> None:
        wrapped = wrap(self.TWO, WrapOptions(init_container="app"))
        assert pod_spec(wrapped)["initContainers"] == [STEP, APP], "without what is forbidden there"
        assert pod_spec(wrapped)["containers"] == [{"name": "other"}]
        assert "without its lifecycle, readinessProbe" in notes(wrapped)

    def test_pod_without_init_containers_can_be_wrapped_with_the_option(self) -> None:
        manifest = pod(initContainers=None, containers=[{"name": "other"}, APP])
        assert pod_spec(wrap(manifest, WrapOptions(init_container="app")))["initContainers"] == [
            APP
        ]

    @pytest.mark.parametrize(
        ("manifest", "name", "message"),
        [
            pytest.param(TWO, "db", 'no container "db"', id="unknown"),
            pytest.param(pod(), "app", "no other container", id="the only one"),
        ],
    )
    def test_container_that_cannot_be_moved_is_refused(
        self, manifest: Raw, name: str, message: str
    ) -> None:
        with pytest.raises(CannotWrapError, match=message):
            wrap(manifest, WrapOptions(init_container=name))


class TestPod:
    def test_labels_and_annotations_go_to_the_template(self) -> None:
        wrapped = wrap(pod({"labels": {"l": "1"}, "annotations": {"a": "1"}}))
        template = wrapped.pipeline["spec"]["template"]
        assert template["metadata"] == {"labels": {"l": "1"}, "annotations": {"a": "1"}}
        assert wrapped.pipeline["metadata"] == {"name": "a", "labels": {"l": "1"}}

    def test_node_name_of_a_written_manifest_is_carried_over(self) -> None:
        assert pod_spec(wrap(pod(nodeName="n")))["nodeName"] == "n"

    def test_node_name_read_from_a_cluster_is_dropped(self) -> None:
        assert "nodeName" not in pod_spec(wrap(pod({"uid": "1"}, nodeName="n")))


class TestReplicas:
    @pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
    def test_zero_replicas_become_a_suspended_pipeline(self, kind: str) -> None:
        wrapped = wrap(workload(kind, replicas=0))
        assert policies(wrapped) == {"suspend": True}
        assert "resume a" in notes(wrapped)
        assert "kubectl scale" not in notes(wrapped), "no Pods run"

    @pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
    def test_note_names_the_number_of_replicas_if_above_one(self, kind: str) -> None:
        wrapped = wrap(workload(kind, replicas=3))
        assert policies(wrapped) == {}
        assert "runs one Pod instead of 3" in notes(wrapped)

    @pytest.mark.parametrize("replicas", [1, None])
    def test_one_replica_needs_no_note(self, replicas: int | None) -> None:
        assert "runs one Pod" not in notes(wrap(workload("Deployment", replicas=replicas)))


class TestStatefulSet:
    CLAIM: Raw = {  # noqa: RUF012 (never changed)
        "metadata": {"name": "data", "labels": {"l": "1"}, "creationTimestamp": None},
        "spec": {"accessModes": ["ReadWriteOnce"]},
        "status": {"phase": "Pending"},
    }

    def test_pod_has_the_hostname_of_the_first_ordinal(self) -> None:
        spec = pod_spec(wrap(stateful_set(ordinals={"start": 5})))
        assert (spec["hostname"], spec["subdomain"]) == ("a-5", "peers")

    def test_pod_uses_the_claims_of_the_first_ordinal(self) -> None:
        template = template_with(volumes=[{"name": "data", "emptyDir": {}}, {"name": "tmp"}])
        wrapped = wrap(stateful_set(volumeClaimTemplates=[self.CLAIM], template=template))
        assert pod_spec(wrapped)["volumes"] == [
            {"name": "tmp"},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data-a-0"}},
        ]
        assert "(data-a-0)" in notes(wrapped)

    def test_output_has_the_claims_as_the_controller_creates_them(self) -> None:
        selector = {"matchLabels": {"app": "a"}}
        wrapped = wrap(stateful_set(volumeClaimTemplates=[self.CLAIM], selector=selector))
        assert wrapped.claims == (
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": "data-a-0", "labels": {"l": "1", "app": "a"}},
                "spec": {"accessModes": ["ReadWriteOnce"]},
            },
        )

    def test_claims_keep_their_names_if_the_pipeline_is_renamed(self) -> None:
        options = WrapOptions(name="b")
        wrapped = wrap(stateful_set(volumeClaimTemplates=[self.CLAIM]), options)
        assert wrapped.claims[0]["metadata"]["name"] == "data-a-0"

    @pytest.mark.parametrize("replicas", [1, 3])
    def test_note_names_the_claims_of_other_replicas(self, replicas: int) -> None:
        text = notes(wrap(stateful_set(replicas=replicas, volumeClaimTemplates=[self.CLAIM])))
        assert ("claims of the other replicas remain" in text) is (replicas > 1)

    @pytest.mark.parametrize("field", ["whenDeleted", "whenScaled"])
    def test_note_warns_if_the_stateful_set_deletes_its_claims(self, field: str) -> None:
        policy = {"whenDeleted": "Retain", "whenScaled": "Retain", field: "Delete"}
        text = notes(wrap(stateful_set(persistentVolumeClaimRetentionPolicy=policy)))
        assert "kubectl patch statefulset a --type=merge" in text


class TestJob:
    @pytest.mark.parametrize(
        ("fields", "carried"),
        [
            pytest.param({}, {"backoffLimit": 6}, id="Kubernetes' default of backoffLimit"),
            pytest.param({"backoffLimit": 0}, {"backoffLimit": 0}, id="backoffLimit"),
            pytest.param(
                {"ttlSecondsAfterFinished": 0},
                {"backoffLimit": 6, "ttlSecondsAfterFinished": 0},
                id="ttlSecondsAfterFinished",
            ),
            pytest.param({"suspend": True}, {"suspend": True, "backoffLimit": 6}, id="suspend"),
            pytest.param({"parallelism": 0}, {"suspend": True, "backoffLimit": 6}, id="paused"),
            pytest.param(
                {"completions": 1, "parallelism": 4},
                {"backoffLimit": 6},
                id="parallelism above one completion",
            ),
        ],
    )
    def test_policies_are_carried_over(self, fields: Raw, carried: Raw) -> None:
        assert policies(wrap(job(**fields))) == carried

    @pytest.mark.parametrize(("own", "least"), [(None, 60), (30, 30), (90, 60)])
    def test_shorter_deadline_is_set_on_the_pod(self, own: int | None, least: int) -> None:
        template = template_with(activeDeadlineSeconds=own)
        wrapped = wrap(job(template=template, activeDeadlineSeconds=60))
        assert pod_spec(wrapped)["activeDeadlineSeconds"] == least
        assert "it limits each attempt" in notes(wrapped)

    @pytest.mark.parametrize("manual", [True, False])
    def test_labels_of_the_old_job_are_dropped_unless_the_selector_is_manual(
        self, manual: bool
    ) -> None:
        template = {**TEMPLATE, "metadata": {"labels": {"job-name": "a"}}}
        wrapped = wrap(job(template=template, manualSelector=manual))
        assert ("metadata" in wrapped.pipeline["spec"]["template"]) is manual

    def test_note_names_max_restarts_if_the_job_counts_container_restarts(self) -> None:
        wrapped = wrap(job(template=template_with(restartPolicy="OnFailure")))
        assert "maxRestarts" in notes(wrapped)

    def test_note_on_waiting_waits_until_all_containers_have_succeeded(self) -> None:
        """A Pod that ends is Ready before, while its app container runs."""
        text = notes(wrap(job()))
        assert "kubectl wait ipl/a --for=jsonpath=" in text
        assert "=PodSucceeded" in text
        assert "--watch" not in text


class TestCronJob:
    def test_note_names_the_schedule_and_how_to_rerun(self) -> None:
        text = notes(wrap(cron_job()))
        assert 'schedule "@daily" is not carried over' in text
        assert "kubectl initpipeline rerun a" in text

    def test_ttl_of_its_jobs_is_dropped(self) -> None:
        wrapped = wrap(cron_job(ttlSecondsAfterFinished=5, backoffLimit=2))
        assert policies(wrapped) == {"backoffLimit": 2}
        assert "ttlSecondsAfterFinished is not carried over" in notes(wrapped)

    @pytest.mark.parametrize("suspended", [True, False])
    def test_suspended_cron_job_becomes_a_suspended_pipeline(self, suspended: bool) -> None:
        wrapped = wrap(cron_job(suspend=suspended))
        assert policies(wrapped).get("suspend", False) is suspended
        assert ("kubectl initpipeline resume a" in notes(wrapped)) is suspended
        assert ("kubectl patch cronjob a" in notes(wrapped)) is not suspended

    def test_note_names_fields_of_its_job_that_are_dropped(self) -> None:
        text = notes(wrap(cron_job(podFailurePolicy={"rules": []})))
        assert "spec.jobTemplate.spec.podFailurePolicy" in text


SAMPLES: Raw = {
    # A value that is not the default, by path.
    "metadata.finalizers": ["example.com/guard"],
    "metadata.ownerReferences": [{"kind": "ConfigMap", "name": "o", "uid": "1"}],
    "metadata.deletionTimestamp": "2030-01-01T00:00:00Z",
    "Deployment.minReadySeconds": 5,
    "Deployment.progressDeadlineSeconds": 60,
    "Deployment.paused": True,
    "DaemonSet.minReadySeconds": 5,
    "StatefulSet.minReadySeconds": 5,
    "Job.completionMode": "Indexed",
    "Job.backoffLimitPerIndex": 1,
    "Job.maxFailedIndexes": 1,
    "Job.successPolicy": {"rules": [{"succeededCount": 1}]},
    "Job.podFailurePolicy": {"rules": []},
    "Job.managedBy": "kueue.x-k8s.io/multikueue",
    "CronJob.schedule": "@yearly",
    "CronJob.timeZone": "Europe/Berlin",
    "CronJob.concurrencyPolicy": "Forbid",
    "CronJob.startingDeadlineSeconds": 5,
    "CronJob.successfulJobsHistoryLimit": 5,
    "CronJob.failedJobsHistoryLimit": 5,
    "Pod.nodeName": "n",
    "Pod.ephemeralContainers": [{"name": "debug"}],
}

MAKERS: Final[Mapping[str, Callable[..., Raw]]] = {
    "Pod": lambda **spec: pod({"uid": "1"}, **spec),
    "Job": job,
    "CronJob": lambda **spec: cron_job() | {"spec": {**cron_job()["spec"], **spec}},
    "StatefulSet": stateful_set,
    "Deployment": lambda **spec: workload("Deployment", **spec),
    "DaemonSet": lambda **spec: workload("DaemonSet", **spec),
}


def dropped(rules: Mapping[str, FieldRule]) -> list[str]:
    return [field for field, rule in rules.items() if rule.handling is FieldHandling.DROPPED]


class TestDroppedField:
    @pytest.mark.parametrize(
        ("kind", "field"),
        [(kind, field) for kind, rules in SPEC_FIELDS.items() for field in dropped(rules)],
    )
    def test_note_names_spec_field_without_counterpart_unless_default(
        self, kind: str, field: str
    ) -> None:
        without, sample = MAKERS[kind](), SAMPLES[f"{kind}.{field}"]
        text = notes(wrap(MAKERS[kind](**{field: sample})))
        assert (f"spec.{field}" if field != "schedule" else 'schedule "@yearly"') in text
        assert f"spec.{field}" not in notes(wrap(without))
        for default in SPEC_FIELDS[kind][field].defaults:
            assert f"spec.{field}" not in notes(wrap(MAKERS[kind](**{field: default})))

    @pytest.mark.parametrize(
        ("kind", "field"), [("CronJob", f) for f in dropped(SPEC_FIELDS["Job"])]
    )
    def test_note_names_job_field_of_a_cron_job(self, kind: str, field: str) -> None:
        assert kind
        text = notes(wrap(cron_job(**{field: SAMPLES[f"Job.{field}"]})))
        assert f"spec.jobTemplate.spec.{field}" in text

    @pytest.mark.parametrize("field", dropped(METADATA_FIELDS))
    @pytest.mark.parametrize("kind", SPEC_FIELDS)
    def test_note_names_metadata_field_without_counterpart(self, kind: str, field: str) -> None:
        manifest = MAKERS[kind]()
        manifest["metadata"] = {**manifest["metadata"], field: SAMPLES[f"metadata.{field}"]}
        assert f"metadata.{field} is not carried over" in notes(wrap(manifest))

    def test_note_names_unknown_field(self) -> None:
        text = notes(wrap(workload("DaemonSet", fieldOfTheFuture=1)))
        assert "spec.fieldOfTheFuture is not carried over: this version" in text

    def test_note_names_job_metadata_of_a_cron_job(self) -> None:
        manifest = cron_job()
        manifest["spec"]["jobTemplate"]["metadata"] = {"labels": {"a": "b"}}
        assert "spec.jobTemplate.metadata is not carried over: labels of the Jobs" in notes(
            wrap(manifest)
        )

    def test_api_server_defaults_need_no_note(self) -> None:
        filled_in: Raw = {
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            "paused": None,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
        }
        assert "not carried over" not in notes(wrap(workload("Deployment", **filled_in)))

    @pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
    @pytest.mark.parametrize(
        "strategy", [{"type": "OnDelete"}, {"rollingUpdate": {"partition": 2}}]
    )
    def test_note_names_update_strategy_that_delays_a_change(
        self, kind: str, strategy: Raw
    ) -> None:
        assert "spec.updateStrategy" in notes(wrap(MAKERS[kind](updateStrategy=strategy)))


class TestLabelsAndAnnotations:
    @pytest.mark.parametrize(
        ("kind", "annotation", "expected"),
        [
            ("Job", "helm.sh/hook", "Helm waits until a hook that is a Job or Pod has completed"),
            ("Pod", "helm.sh/hook", "Helm waits until a hook that is a Job or Pod has completed"),
            ("Job", "argocd.argoproj.io/hook", "manifests/argocd"),
            ("Deployment", "argocd.argoproj.io/sync-wave", "manifests/argocd"),
            ("Deployment", "argocd.argoproj.io/tracking-id", "restores it, unless you remove it"),
            ("Deployment", "meta.helm.sh/release-name", "restores it, unless you remove it"),
            ("Pod", "sidecar.istio.io/status", "injected and may inject again"),
            ("Deployment", "reloader.stakater.com/auto", "may act on Deployments only: reloader"),
        ],
    )
    def test_note_names_annotation_that_a_tool_acts_on(
        self, kind: str, annotation: str, expected: str
    ) -> None:
        manifest = MAKERS[kind]()
        manifest["metadata"] = {"name": "a", "annotations": {annotation: "x"}}
        assert expected in notes(wrap(manifest))

    @pytest.mark.parametrize(
        "annotation",
        [
            "kubectl.kubernetes.io/last-applied-configuration",
            "deployment.kubernetes.io/revision",
            "batch.kubernetes.io/job-tracking",
            "kubernetes.io/change-cause",
        ],
    )
    def test_annotation_about_the_old_object_needs_no_note(self, annotation: str) -> None:
        manifest = workload("Deployment", {"annotations": {annotation: "x"}})
        assert annotation not in notes(wrap(manifest))

    def test_pod_annotation_about_the_applied_object_stays_on_the_pipeline(self) -> None:
        annotations = {"helm.sh/hook": "test", "prometheus.io/scrape": "true"}
        pipeline = wrap(pod({"annotations": annotations})).pipeline
        assert pipeline["metadata"]["annotations"] == {"helm.sh/hook": "test"}
        assert pipeline["spec"]["template"]["metadata"]["annotations"] == {
            "prometheus.io/scrape": "true"
        }

    def test_note_names_the_queue_label_of_kueue(self) -> None:
        manifest = job({"labels": {"kueue.x-k8s.io/queue-name": "q"}}, suspend=True)
        assert "Kueue does not manage InitPipelines" in notes(wrap(manifest))


@pytest.mark.parametrize("value", [None, "true", "false"])
def test_note_names_node_scale_down_unless_the_template_decides(value: str | None) -> None:
    annotations = {"cluster-autoscaler.kubernetes.io/safe-to-evict": value} if value else {}
    template = {**TEMPLATE, "metadata": {"annotations": annotations}}
    text = notes(wrap(workload("Deployment", template=template)))
    assert ("cluster-autoscaler does not remove a node" in text) is (value is None)
    assert "cluster-autoscaler" not in notes(wrap(pod())), (
        "it does not remove the node of a bare Pod either"
    )


class TestCompletedWorkload:
    @pytest.mark.parametrize(
        ("manifest", "status"),
        [
            (job(), {"conditions": [{"type": "Complete", "status": "True"}]}),
            (job(), {"conditions": [{"type": "Failed", "status": "True"}]}),
            (pod(), {"phase": "Succeeded"}),
        ],
    )
    def test_note_warns_that_a_completed_workload_runs_again(
        self, manifest: Raw, status: Raw
    ) -> None:
        assert "runs it again" in notes(wrap({**manifest, "status": status}))
        assert "runs it again" not in notes(wrap({**manifest, "status": {"conditions": None}}))


class TestOwner:
    OWNER: Raw = {"kind": "CronJob", "name": "c", "controller": True}  # noqa: RUF012

    def test_job_owned_by_a_cron_job_is_refused(self) -> None:
        with pytest.raises(CannotWrapError, match='Job "a" was created by CronJob "c"'):
            wrap(job({"ownerReferences": [self.OWNER]}))

    def test_note_names_the_owner_that_may_restore_the_workload(self) -> None:
        owner = {**self.OWNER, "kind": "Grafana"}
        text = notes(wrap(workload("Deployment", {"ownerReferences": [owner]})))
        assert 'was created by Grafana "c", which may restore it' in text


class TestStopCommand:
    @pytest.mark.parametrize(
        ("manifest", "command"),
        [
            (pod(), "kubectl delete pod a"),
            (workload("Deployment"), "kubectl scale deployment a --replicas=0"),
            (stateful_set(), "kubectl scale statefulset a --replicas=0"),
            (workload("DaemonSet"), "kubectl delete daemonset a"),
            (job(), "kubectl delete job a"),
            (cron_job(), """kubectl patch cronjob a -p '{"spec":{"suspend":true}}'"""),
        ],
        ids=lambda value: value["kind"] if isinstance(value, dict) else "",
    )
    def test_last_note_has_the_command_that_stops_the_old_pods(
        self, manifest: Raw, command: str
    ) -> None:
        assert wrap(manifest).notes[-1].endswith(f": {command}")

    @pytest.mark.parametrize(
        ("namespace", "option"),
        [("n", None), (None, "n"), ("n", "m")],
        ids=["manifest", "option", "both"],
    )
    def test_command_has_the_namespace_of_the_manifest_or_the_option(
        self, namespace: str | None, option: str | None
    ) -> None:
        manifest = workload("DaemonSet", {"namespace": namespace} if namespace else None)
        assert wrap(manifest, WrapOptions(namespace=option)).notes[-1].endswith(" daemonset a -n n")

    @pytest.mark.parametrize(
        ("manifest", "before"),
        [
            pytest.param(workload("Deployment"), False, id="Deployment"),
            pytest.param(pod(), True, id="Pod: same name"),
            pytest.param(stateful_set(), True, id="StatefulSet: same hostname"),
            pytest.param(
                workload("Deployment", strategy={"type": "Recreate"}), True, id="strategy Recreate"
            ),
            pytest.param(
                workload(
                    "Deployment",
                    template=template_with(volumes=[{"persistentVolumeClaim": {"claimName": "c"}}]),
                ),
                True,
                id="a claim",
            ),
            pytest.param(
                workload(
                    "Deployment",
                    template=template_with(containers=[{**APP, "ports": [{"hostPort": 80}]}]),
                ),
                True,
                id="a port of the node",
            ),
            pytest.param(
                workload("DaemonSet", template=template_with(hostNetwork=True)),
                True,
                id="the node's network",
            ),
            pytest.param(job(), True, id="a Job, which would do its work twice"),
            pytest.param(cron_job(), True, id="a CronJob"),
        ],
    )
    def test_old_pods_are_stopped_first_if_both_cannot_run(
        self, manifest: Raw, before: bool
    ) -> None:
        assert ("before you apply this" in wrap(manifest).notes[-1]) is before
