"""What becomes of a workload: what is carried over, what is told, and what is refused."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest

from initpipeline.plugin.wrap.fields import METADATA_FIELDS, SPEC_FIELDS, FieldHandling, FieldRule
from initpipeline.plugin.wrap.rules import CannotWrapError
from initpipeline.plugin.wrap.workloads import WrapOptions, Wrapped, is_workload, wrap

Raw = dict[str, Any]

STEP = {"name": "step", "image": "busybox"}
APP = {"name": "app", "image": "nginx"}
POD_SPEC: Raw = {"initContainers": [STEP], "containers": [APP]}
TEMPLATE: Raw = {"metadata": {"labels": {"app": "a"}}, "spec": POD_SPEC}
GROUPS = {"Pod": "v1", "Job": "batch/v1", "CronJob": "batch/v1"}


def workload(kind: str, /, metadata: Raw | None = None, **spec: Any) -> Raw:
    """One named "a" of that kind, with these fields of its spec."""
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


def with_pod_spec(**fields: Any) -> Raw:
    """A template whose Pod has these fields too."""
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
    def test_its_containers_go_over(self, manifest: Raw) -> None:
        before = copy.deepcopy(manifest)
        wrapped = wrap(manifest)
        assert wrapped.pipeline["apiVersion"] == "initpipeline.dev/v1alpha1"
        assert wrapped.pipeline["kind"] == "InitPipeline"
        assert wrapped.pipeline["metadata"] == {"name": "a"}
        assert pod_spec(wrapped).items() >= POD_SPEC.items()
        assert manifest == before, "what was given is not changed"

    @pytest.mark.parametrize("manifest", ALL[1:3] + ALL[4:])
    def test_its_template_is_verbatim(self, manifest: Raw) -> None:
        assert wrap(manifest).pipeline["spec"]["template"] == TEMPLATE

    @pytest.mark.parametrize("manifest", ALL)
    def test_is_a_workload(self, manifest: Raw) -> None:
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
    def test_others_are_none(self, version: str, kind: str) -> None:
        assert not is_workload({"apiVersion": version, "kind": kind})

    @pytest.mark.parametrize("manifest", ALL)
    def test_what_it_has_to_do_with_the_restarts_of_apps_is_told(self, manifest: Raw) -> None:
        assert "OnPodLoss" in notes(wrap(manifest))

    def test_a_pod_whose_containers_never_restart_needs_no_such_word(self) -> None:
        assert "OnPodLoss" not in notes(wrap(pod(restartPolicy="Never")))


class TestIdentity:
    def test_namespace_labels_and_annotations_are_kept(self) -> None:
        said = {"namespace": "n", "labels": {"l": "1"}, "annotations": {"a": "1"}}
        wrapped = wrap(workload("Deployment", said))
        assert wrapped.pipeline["metadata"] == {"name": "a", **said}

    def test_what_only_the_server_sets_is_not(self) -> None:
        said = {
            "uid": "1",
            "resourceVersion": "1",
            "generation": 2,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{}],
            "finalizers": ["x/y"],
            "annotations": {"deployment.kubernetes.io/revision": "1"},
        }
        assert wrap(workload("Deployment", said)).pipeline["metadata"] == {"name": "a"}

    def test_another_name(self) -> None:
        wrapped = wrap(workload("Deployment"), WrapOptions(name="b"))
        assert wrapped.pipeline["metadata"]["name"] == "b"
        assert "scale deployment a " in notes(wrapped), "the old one is called as before"

    @pytest.mark.parametrize(
        ("manifest", "command"),
        [(workload("Deployment", replicas=0), "resume b"), (cron_job(), "rerun b")],
        ids=["suspended", "scheduled"],
    )
    def test_commands_for_the_pipeline_call_it_by_its_own_name(
        self, manifest: Raw, command: str
    ) -> None:
        assert f"kubectl initpipeline {command}" in notes(wrap(manifest, WrapOptions(name="b")))

    def test_what_has_only_a_generated_name_cannot_be_ended_by_it(self) -> None:
        manifest = workload("Deployment", {"name": None, "generateName": "a-"})
        assert "None" not in notes(wrap(manifest))

    def test_a_generated_name_stays_one(self) -> None:
        manifest = job({"name": None, "generateName": "a-"})
        assert wrap(manifest).pipeline["metadata"] == {"generateName": "a-"}

    @pytest.mark.parametrize("length", [63, 64])
    def test_a_name_is_one_dns_label(self, length: int) -> None:
        manifest = workload("Deployment", {"name": "a" * length})
        if length == 63:
            assert wrap(manifest)
            return
        with pytest.raises(CannotWrapError, match=r"at most 63 characters, not 64: .*--name"):
            wrap(manifest)


@pytest.mark.parametrize(
    ("metadata", "kept"), [({}, True), ({"uid": "1"}, False)], ids=["written", "read back"]
)
def test_defaults_of_the_server_go_where_the_server_set_them(metadata: Raw, kept: bool) -> None:
    step = {**STEP, "terminationMessagePolicy": "File"}
    manifest = workload("Deployment", metadata, template=with_pod_spec(initContainers=[step]))
    assert ("terminationMessagePolicy" in pod_spec(wrap(manifest))["initContainers"][0]) is kept


class TestRefused:
    @pytest.mark.parametrize(
        ("manifest", "words"),
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
                id="no steps, but containers to choose from",
            ),
            pytest.param(job(completions=3), "several Pods", id="completions"),
            pytest.param(job(parallelism=2), "several Pods", id="parallelism"),
            pytest.param(cron_job(parallelism=2), "several Pods", id="parallelism of a CronJob"),
            pytest.param(
                pod({"ownerReferences": [{"kind": "ReplicaSet", "name": "r", "controller": True}]}),
                'created by ReplicaSet "r"',
                id="a controller's Pod",
            ),
        ],
    )
    def test_with_the_reason(self, manifest: Raw, words: str) -> None:
        with pytest.raises(CannotWrapError, match=words):
            wrap(manifest)

    def test_a_stateful_set_without_a_name_has_no_claims_whatever_it_is_to_be_called(self) -> None:
        with pytest.raises(CannotWrapError, match="its claims cannot be told"):
            wrap(stateful_set({"name": None}), WrapOptions(name="b"))


class TestInitContainer:
    TWO = pod(containers=[{**APP, "readinessProbe": {}, "lifecycle": {}}, {"name": "other"}])

    def test_moves_to_the_end_of_the_steps(self) -> None:
        wrapped = wrap(self.TWO, WrapOptions(init_container="app"))
        assert pod_spec(wrapped)["initContainers"] == [STEP, APP], "without what is forbidden there"
        assert pod_spec(wrapped)["containers"] == [{"name": "other"}]
        assert "without its lifecycle, readinessProbe" in notes(wrapped)

    def test_makes_a_pipeline_of_a_pod_without_steps(self) -> None:
        manifest = pod(initContainers=None, containers=[{"name": "other"}, APP])
        assert pod_spec(wrap(manifest, WrapOptions(init_container="app")))["initContainers"] == [
            APP
        ]

    @pytest.mark.parametrize(
        ("manifest", "name", "words"),
        [
            pytest.param(TWO, "db", 'no container "db"', id="unknown"),
            pytest.param(pod(), "app", "no other container", id="the only one"),
        ],
    )
    def test_that_cannot_be_moved(self, manifest: Raw, name: str, words: str) -> None:
        with pytest.raises(CannotWrapError, match=words):
            wrap(manifest, WrapOptions(init_container=name))


class TestPod:
    def test_its_labels_and_annotations_are_its_templates(self) -> None:
        wrapped = wrap(pod({"labels": {"l": "1"}, "annotations": {"a": "1"}}))
        template = wrapped.pipeline["spec"]["template"]
        assert template["metadata"] == {"labels": {"l": "1"}, "annotations": {"a": "1"}}
        assert wrapped.pipeline["metadata"] == {"name": "a", "labels": {"l": "1"}}

    def test_a_node_that_a_person_chose_is_kept(self) -> None:
        assert pod_spec(wrap(pod(nodeName="n")))["nodeName"] == "n"

    def test_a_node_that_the_scheduler_chose_is_not(self) -> None:
        assert "nodeName" not in pod_spec(wrap(pod({"uid": "1"}, nodeName="n")))


class TestReplicas:
    @pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
    def test_none_is_suspended(self, kind: str) -> None:
        wrapped = wrap(workload(kind, replicas=0))
        assert policies(wrapped) == {"suspend": True}
        assert "resume a" in notes(wrapped)
        assert "kubectl scale" not in notes(wrapped), "there is nothing to end"

    @pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
    def test_several_become_one(self, kind: str) -> None:
        wrapped = wrap(workload(kind, replicas=3))
        assert policies(wrapped) == {}
        assert "one Pod runs, where 3 ran" in notes(wrapped)

    @pytest.mark.parametrize("replicas", [1, None])
    def test_one_is_nothing_to_speak_of(self, replicas: int | None) -> None:
        assert "one Pod runs" not in notes(wrap(workload("Deployment", replicas=replicas)))


class TestStatefulSet:
    CLAIM: Raw = {  # noqa: RUF012 (never changed)
        "metadata": {"name": "data", "labels": {"l": "1"}, "creationTimestamp": None},
        "spec": {"accessModes": ["ReadWriteOnce"]},
        "status": {"phase": "Pending"},
    }

    def test_has_the_address_of_its_first_member(self) -> None:
        spec = pod_spec(wrap(stateful_set(ordinals={"start": 5})))
        assert (spec["hostname"], spec["subdomain"]) == ("a-5", "peers")

    def test_uses_the_claims_of_its_first_member(self) -> None:
        template = with_pod_spec(volumes=[{"name": "data", "emptyDir": {}}, {"name": "tmp"}])
        wrapped = wrap(stateful_set(volumeClaimTemplates=[self.CLAIM], template=template))
        assert pod_spec(wrapped)["volumes"] == [
            {"name": "tmp"},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data-a-0"}},
        ]
        assert "(data-a-0)" in notes(wrapped)

    def test_brings_the_claims_along_as_the_controller_makes_them(self) -> None:
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

    def test_claims_are_the_old_sets_under_another_name_too(self) -> None:
        options = WrapOptions(name="b")
        wrapped = wrap(stateful_set(volumeClaimTemplates=[self.CLAIM]), options)
        assert wrapped.claims[0]["metadata"]["name"] == "data-a-0"

    @pytest.mark.parametrize("replicas", [1, 3])
    def test_claims_of_other_members_stay(self, replicas: int) -> None:
        shown = notes(wrap(stateful_set(replicas=replicas, volumeClaimTemplates=[self.CLAIM])))
        assert ("claims of the other members stay" in shown) is (replicas > 1)

    @pytest.mark.parametrize("field", ["whenDeleted", "whenScaled"])
    def test_warns_of_a_set_that_deletes_its_claims(self, field: str) -> None:
        policy = {"whenDeleted": "Retain", "whenScaled": "Retain", field: "Delete"}
        shown = notes(wrap(stateful_set(persistentVolumeClaimRetentionPolicy=policy)))
        assert "kubectl patch statefulset a --type=merge" in shown


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
                id="parallelism that one completion leaves no use for",
            ),
        ],
    )
    def test_policies(self, fields: Raw, carried: Raw) -> None:
        assert policies(wrap(job(**fields))) == carried

    @pytest.mark.parametrize(("own", "least"), [(None, 60), (30, 30), (90, 60)])
    def test_its_deadline_is_the_pods(self, own: int | None, least: int) -> None:
        template = with_pod_spec(activeDeadlineSeconds=own)
        wrapped = wrap(job(template=template, activeDeadlineSeconds=60))
        assert pod_spec(wrapped)["activeDeadlineSeconds"] == least
        assert "for each attempt" in notes(wrapped)

    @pytest.mark.parametrize("manual", [True, False])
    def test_labels_that_tie_to_the_old_job_go(self, manual: bool) -> None:
        template = {**TEMPLATE, "metadata": {"labels": {"job-name": "a"}}}
        wrapped = wrap(job(template=template, manualSelector=manual))
        assert ("metadata" in wrapped.pipeline["spec"]["template"]) is manual

    def test_restarts_that_a_job_would_count_are_told_of(self) -> None:
        wrapped = wrap(job(template=with_pod_spec(restartPolicy="OnFailure")))
        assert "maxRestarts" in notes(wrapped)


class TestCronJob:
    def test_its_schedule_stays_behind(self) -> None:
        shown = notes(wrap(cron_job()))
        assert 'schedule "@daily" stays behind' in shown
        assert "kubectl initpipeline rerun a" in shown

    def test_is_not_deleted_after_its_first_run(self) -> None:
        wrapped = wrap(cron_job(ttlSecondsAfterFinished=5, backoffLimit=2))
        assert policies(wrapped) == {"backoffLimit": 2}
        assert "ttlSecondsAfterFinished is left out" in notes(wrapped)

    @pytest.mark.parametrize("suspended", [True, False])
    def test_a_suspended_schedule_is_a_suspended_pipeline(self, suspended: bool) -> None:
        wrapped = wrap(cron_job(suspend=suspended))
        assert policies(wrapped).get("suspend", False) is suspended
        assert ("kubectl initpipeline resume a" in notes(wrapped)) is suspended
        assert ("kubectl patch cronjob a" in notes(wrapped)) is not suspended

    def test_fields_of_its_job_that_are_left_behind_are_named(self) -> None:
        shown = notes(wrap(cron_job(podFailurePolicy={"rules": []})))
        assert "spec.jobTemplate.spec.podFailurePolicy" in shown


SAMPLES: Raw = {
    # By path, a value that is not the default.
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


def named(rows: Mapping[str, FieldRule]) -> list[str]:
    return [field for field, row in rows.items() if row.handling is FieldHandling.LEFT_BEHIND]


class TestLeftBehind:
    @pytest.mark.parametrize(
        ("kind", "field"),
        [(kind, field) for kind, rows in SPEC_FIELDS.items() for field in named(rows)],
    )
    def test_field_of_the_spec_without_counterpart_is_named(self, kind: str, field: str) -> None:
        without, sample = MAKERS[kind](), SAMPLES[f"{kind}.{field}"]
        shown = notes(wrap(MAKERS[kind](**{field: sample})))
        assert (f"spec.{field}" if field != "schedule" else 'schedule "@yearly"') in shown
        assert f"spec.{field}" not in notes(wrap(without))
        for default in SPEC_FIELDS[kind][field].defaults:
            assert f"spec.{field}" not in notes(wrap(MAKERS[kind](**{field: default})))

    @pytest.mark.parametrize(("kind", "field"), [("CronJob", f) for f in named(SPEC_FIELDS["Job"])])
    def test_field_of_a_cron_jobs_job_is_named(self, kind: str, field: str) -> None:
        assert kind
        shown = notes(wrap(cron_job(**{field: SAMPLES[f"Job.{field}"]})))
        assert f"spec.jobTemplate.spec.{field}" in shown

    @pytest.mark.parametrize("field", named(METADATA_FIELDS))
    @pytest.mark.parametrize("kind", SPEC_FIELDS)
    def test_field_of_the_metadata_without_counterpart_is_named(
        self, kind: str, field: str
    ) -> None:
        manifest = MAKERS[kind]()
        manifest["metadata"] = {**manifest["metadata"], field: SAMPLES[f"metadata.{field}"]}
        assert f"metadata.{field} is left behind" in notes(wrap(manifest))

    def test_field_of_a_newer_kubernetes_is_named(self) -> None:
        shown = notes(wrap(workload("DaemonSet", fieldOfTheFuture=1)))
        assert "spec.fieldOfTheFuture is left behind: this version" in shown

    def test_metadata_of_a_cron_jobs_jobs_is_named(self) -> None:
        manifest = cron_job()
        manifest["spec"]["jobTemplate"]["metadata"] = {"labels": {"a": "b"}}
        assert "spec.jobTemplate.metadata is left behind: labels of the Jobs" in notes(
            wrap(manifest)
        )

    def test_defaults_of_the_api_server_are_not_named(self) -> None:
        filled_in: Raw = {
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            "paused": None,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
        }
        assert "left behind" not in notes(wrap(workload("Deployment", **filled_in)))

    @pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
    @pytest.mark.parametrize(
        "strategy", [{"type": "OnDelete"}, {"rollingUpdate": {"partition": 2}}]
    )
    def test_update_that_waited_is_named(self, kind: str, strategy: Raw) -> None:
        assert "spec.updateStrategy" in notes(wrap(MAKERS[kind](updateStrategy=strategy)))


class TestKeys:
    @pytest.mark.parametrize(
        ("kind", "annotation", "expected"),
        [
            ("Job", "helm.sh/hook", "Helm waits for the end of hooks that are Jobs or Pods"),
            ("Pod", "helm.sh/hook", "Helm waits for the end of hooks that are Jobs or Pods"),
            ("Job", "argocd.argoproj.io/hook", "manifests/argocd"),
            ("Deployment", "argocd.argoproj.io/sync-wave", "manifests/argocd"),
            ("Deployment", "argocd.argoproj.io/tracking-id", "restores the old one"),
            ("Deployment", "meta.helm.sh/release-name", "restores the old one"),
            ("Pod", "sidecar.istio.io/status", "admission may inject them again"),
            ("Deployment", "reloader.stakater.com/auto", "may act on Deployments only: reloader"),
        ],
    )
    def test_annotation_that_others_act_on_is_named(
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
    def test_annotation_that_concerns_nothing_else_is_not_named(self, annotation: str) -> None:
        manifest = workload("Deployment", {"annotations": {annotation: "x"}})
        assert annotation not in notes(wrap(manifest))

    def test_annotation_of_a_pod_about_the_object_stays_with_the_object(self) -> None:
        annotations = {"helm.sh/hook": "test", "prometheus.io/scrape": "true"}
        pipeline = wrap(pod({"annotations": annotations})).pipeline
        assert pipeline["metadata"]["annotations"] == {"helm.sh/hook": "test"}
        assert pipeline["spec"]["template"]["metadata"]["annotations"] == {
            "prometheus.io/scrape": "true"
        }

    def test_label_of_a_queue_is_named(self) -> None:
        manifest = job({"labels": {"kueue.x-k8s.io/queue-name": "q"}}, suspend=True)
        assert "Kueue does not know InitPipelines" in notes(wrap(manifest))


@pytest.mark.parametrize("value", [None, "true", "false"])
def test_scale_down_of_nodes_is_named_unless_the_template_decides(value: str | None) -> None:
    annotations = {"cluster-autoscaler.kubernetes.io/safe-to-evict": value} if value else {}
    template = {**TEMPLATE, "metadata": {"annotations": annotations}}
    shown = notes(wrap(workload("Deployment", template=template)))
    assert ("cluster-autoscaler keeps the node" in shown) is (value is None)
    assert "cluster-autoscaler" not in notes(wrap(pod())), "it kept the node of a bare Pod before"


class TestEnded:
    @pytest.mark.parametrize(
        ("manifest", "status"),
        [
            (job(), {"conditions": [{"type": "Complete", "status": "True"}]}),
            (job(), {"conditions": [{"type": "Failed", "status": "True"}]}),
            (pod(), {"phase": "Succeeded"}),
        ],
    )
    def test_workload_that_has_run_runs_again(self, manifest: Raw, status: Raw) -> None:
        assert "runs it again" in notes(wrap({**manifest, "status": status}))
        assert "runs it again" not in notes(wrap({**manifest, "status": {"conditions": None}}))


class TestOwner:
    OWNER: Raw = {"kind": "CronJob", "name": "c", "controller": True}  # noqa: RUF012

    def test_job_of_a_cron_job_is_refused(self) -> None:
        with pytest.raises(CannotWrapError, match='Job "a" was created by CronJob "c"'):
            wrap(job({"ownerReferences": [self.OWNER]}))

    def test_workload_of_another_controller_is_named(self) -> None:
        owner = {**self.OWNER, "kind": "Grafana"}
        shown = notes(wrap(workload("Deployment", {"ownerReferences": [owner]})))
        assert 'was created by Grafana "c", which may restore it' in shown


class TestEndOfTheOldOne:
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
    def test_command(self, manifest: Raw, command: str) -> None:
        assert wrap(manifest).notes[-1].endswith(f": {command}")

    @pytest.mark.parametrize(
        ("said", "wished"), [("n", None), (None, "n"), ("n", "m")], ids=["said", "wished", "both"]
    )
    def test_namespace(self, said: str | None, wished: str | None) -> None:
        manifest = workload("DaemonSet", {"namespace": said} if said else None)
        assert wrap(manifest, WrapOptions(namespace=wished)).notes[-1].endswith(" daemonset a -n n")

    @pytest.mark.parametrize(
        ("manifest", "before"),
        [
            pytest.param(workload("Deployment"), False, id="Deployment"),
            pytest.param(pod(), True, id="Pod: of the same name"),
            pytest.param(stateful_set(), True, id="StatefulSet: of the same address"),
            pytest.param(
                workload("Deployment", strategy={"type": "Recreate"}), True, id="strategy Recreate"
            ),
            pytest.param(
                workload(
                    "Deployment",
                    template=with_pod_spec(volumes=[{"persistentVolumeClaim": {"claimName": "c"}}]),
                ),
                True,
                id="a claim",
            ),
            pytest.param(
                workload(
                    "Deployment",
                    template=with_pod_spec(containers=[{**APP, "ports": [{"hostPort": 80}]}]),
                ),
                True,
                id="a port of the node",
            ),
            pytest.param(
                workload("DaemonSet", template=with_pod_spec(hostNetwork=True)),
                True,
                id="the node's network",
            ),
        ],
    )
    def test_comes_first_where_both_cannot_run(self, manifest: Raw, before: bool) -> None:
        assert ("before you apply this" in wrap(manifest).notes[-1]) is before
