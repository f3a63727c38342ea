"""``kubectl initpipeline plan`` on a real API server: applying the file has the planned effect."""

import copy
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from initpipeline.api import names
from initpipeline.api.raw import Raw
from initpipeline.plugin.report.apply_patch import last_applied, three_way_patch
from tests.api_client import allow
from tests.builders import NAME, pipeline, running_pod
from tests.cluster.cluster import Cluster
from tests.contract.contract_env import ContractEnv
from tests.faultproxy import Answer, FaultProxy
from tests.kubectl import Kubectl
from tests.plugin import PluginResult, run_plugin
from tests.statuses import condition, is_ready

pytest_plugins = ["tests.contract.operator_fixtures"]


@dataclass(frozen=True)
class Planner:
    """The namespace of a test with the plugin's ``plan`` and kubectl."""

    env: ContractEnv
    kubectl: Kubectl
    kubeconfig: Path
    directory: Path
    capsys: pytest.CaptureFixture[str]

    def plan(self, *objects: Raw, options: tuple[str, ...] = ()) -> PluginResult:
        """Run ``plan`` with a file of these objects."""
        file = self.directory / "file.json"
        file.write_text("\n".join(map(json.dumps, objects)))
        common = ("-n", self.env.namespace, "--kubeconfig", str(self.kubeconfig))
        return run_plugin(self.capsys, "plan", "-f", str(file), *common, *options)

    def plan_json(self, *objects: Raw) -> Any:
        """Returns the plan of the first object, as parsed JSON output."""
        return json.loads(self.plan(*objects, options=("-o", "json"))[1])[0]

    def apply(self, manifest: Raw) -> None:
        """Apply an object with kubectl."""
        self.kubectl("apply", "-n", self.env.namespace, "-f", "-", stdin=manifest)


@pytest.fixture
def planner(
    env: ContractEnv,
    kubectl: Kubectl,
    control_plane: Cluster,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Planner:
    return Planner(env, kubectl, control_plane.kubeconfig, tmp_path, capsys)


def manifest(**policies: Any) -> Raw:
    raw = pipeline().raw()
    return {
        "apiVersion": raw["apiVersion"],
        "kind": raw["kind"],
        "metadata": {"name": NAME},
        "spec": {**raw["spec"], **policies},
    }


def changed(change: Callable[[Raw], Any], of: Raw | None = None) -> Raw:
    new = copy.deepcopy(of or manifest())
    change(new)
    return new


def containers(of: Raw) -> list[Raw]:
    inits: list[Raw] = of["spec"]["template"]["spec"]["initContainers"]
    return inits


def other_image(of: Raw) -> None:
    containers(of)[1]["image"] = "busybox:2"


def set_defaults(of: Raw) -> None:
    containers(of)[0] |= {"imagePullPolicy": "Always", "env": [], "resources": {"limits": {}}}


class TestPlan:
    """``plan`` changes nothing, and predicts the effect of applying the file."""

    @pytest.mark.parametrize(
        ("change", "code", "kind", "run"),
        [
            pytest.param(lambda _: None, 0, "nothing", 1, id="the same"),
            pytest.param(set_defaults, 0, "nothing", 1, id="another notation"),
            pytest.param(other_image, 1, "run", 2, id="another template"),
            pytest.param(lambda m: m["spec"].update(backoffLimit=3), 1, "policy", 1, id="a limit"),
            pytest.param(
                lambda m: m["metadata"].update(annotations={names.RERUN_ANNOTATION: "t"}),
                1,
                "run",
                2,
                id="a request",
            ),
        ],
    )
    @pytest.mark.usefixtures("operator")
    def test_applying_the_file_has_the_planned_effect(
        self, planner: Planner, change: Callable[[Raw], Any], code: int, kind: str, run: int
    ) -> None:
        planner.apply(manifest())
        planner.env.run_pod(running_pod())
        planner.env.wait("Ready", is_ready)
        before = planner.env.pipeline()
        new = changed(change)

        exit_code, _, errors = planner.plan(new)
        assert (exit_code, errors) == (code, "")
        plan = planner.plan_json(new)
        assert plan["plan"] == kind
        assert plan.get("run", {"number": 1})["number"] == run
        assert planner.env.pipeline() == before

        planner.apply(new)
        generation = (planner.env.pipeline() or {})["metadata"]["generation"]
        planner.env.wait(
            "the new generation is observed",
            lambda s: s["observedGeneration"] == generation and s["run"]["number"] >= run,
        )
        assert planner.env.status()["run"]["number"] == run
        if kind == "run":
            assert planner.env.status()["run"]["trigger"] == plan["run"]["trigger"]

    @pytest.mark.usefixtures("operator")
    def test_new_run_is_printed_with_changed_fields_and_the_interrupted_run(
        self, planner: Planner
    ) -> None:
        planner.apply(manifest())
        planner.env.run_pod(running_pod())
        planner.env.wait("Ready", is_ready)
        code, out, _ = planner.plan(changed(other_image))
        lines = [line.strip() for line in out.splitlines()]
        assert code == 1
        assert lines[0].endswith("a new run starts")
        assert "run 2 starts (SpecChanged)" in lines
        assert any(line.startswith("interrupts run 1, Ready for ") for line in lines)
        assert 'spec.initContainers[1].image: "busybox" -> "busybox:2"' in lines

    @pytest.mark.usefixtures("operator")
    def test_suspension_is_planned_with_the_deletion_of_the_pod(self, planner: Planner) -> None:
        planner.apply(manifest())
        planner.env.run_pod(running_pod())
        planner.env.wait("Ready", is_ready)
        plan = planner.plan_json(manifest(suspend=True))
        assert plan["plan"] == "policy"
        assert plan["effects"] == ["the Pod is deleted", "no run starts until you resume it"]
        assert plan["interrupts"].startswith("run 1, Ready for")
        planner.apply(manifest(suspend=True))
        planner.env.wait("suspended", lambda s: condition(s, "Suspended")["status"] == "True")
        plan = planner.plan_json(manifest())
        assert plan["run"] == {"number": 2, "trigger": "Resumed"}

    @pytest.mark.usefixtures("operator")
    def test_field_removed_from_the_file_is_removed(self, planner: Planner) -> None:
        planner.apply(manifest(backoffLimit=3))
        planner.env.wait_for_pod(1)
        [policy] = planner.plan_json(manifest())["policies"]
        assert (policy["field"], policy["old"], policy["new"]) == ("backoffLimit", 3, 0)

    def test_new_pipeline_is_planned_with_run_1(self, planner: Planner) -> None:
        code, out, _ = planner.plan(manifest())
        assert code == 1
        assert out.splitlines()[0].endswith("is created")
        assert planner.plan_json(manifest())["run"] == {"number": 1, "trigger": "Created"}
        assert planner.env.pipeline() is None

    def test_new_suspended_pipeline_is_planned_without_a_run(self, planner: Planner) -> None:
        plan = planner.plan_json(manifest(suspend=True))
        assert plan["plan"] == "create"
        assert "run" not in plan


LABELLED = manifest(backoffLimit=2, initPolicies=[{"name": "one", "timeoutSeconds": 9}])
LABELLED["metadata"]["labels"] = {"a": "1", "b": "2"}
LABELLED["spec"]["template"]["metadata"] = {"labels": {"x": "1", "y": "2"}}


class TestMerge:
    @pytest.mark.parametrize(
        "new",
        [
            pytest.param(LABELLED, id="the same"),
            pytest.param(manifest(), id="fields less"),
            pytest.param(changed(other_image, LABELLED), id="a list's item"),
            pytest.param(changed(lambda m: containers(m).pop(), LABELLED), id="an item less"),
            pytest.param(
                changed(lambda m: m["metadata"]["labels"].pop("a"), LABELLED), id="a label less"
            ),
            pytest.param(
                changed(lambda m: m["spec"]["template"]["metadata"].update(labels=None), LABELLED),
                id="null",
            ),
            pytest.param(changed(lambda m: m["spec"].update(suspend=True), LABELLED), id="more"),
        ],
    )
    def test_merged_object_equals_that_of_kubectl_apply(self, planner: Planner, new: Raw) -> None:
        """This holds even if another client has changed the object since the file was applied."""
        planner.apply(LABELLED)
        others = {"metadata": {"labels": {"c": "3"}}, "spec": {"rerunPolicy": "Never"}}
        planner.env.patch(others)
        live = planner.env.pipeline()
        assert live is not None
        apply = ("apply", "-n", planner.env.namespace, "--dry-run=server", "-o", "json", "-f", "-")
        expected = json.loads(planner.kubectl(*apply, stdin=new))
        patch = three_way_patch(last_applied(live), new, live)
        merged = planner.env.pipelines.patch(NAME, patch, dry_run="All")
        assert merged["spec"] == expected["spec"]
        assert merged["metadata"].get("labels") == expected["metadata"].get("labels")


class TestServerSide:
    OPTIONS = ("--server-side", "-o", "json")

    def test_field_that_the_manager_no_longer_sets_is_removed(self, planner: Planner) -> None:
        where = ("-n", planner.env.namespace)
        planner.kubectl("apply", "--server-side", *where, "-f", "-", stdin=manifest(backoffLimit=3))
        code, out, _ = planner.plan(manifest(), options=self.OPTIONS)
        [policy] = json.loads(out)[0]["policies"]
        assert (code, policy["field"], policy["new"]) == (1, "backoffLimit", 0)

    def test_field_of_another_manager_is_a_conflict(self, planner: Planner) -> None:
        planner.env.create(pipeline().policy(backoffLimit=3))
        code, out, _ = planner.plan(manifest(backoffLimit=4), options=("--server-side",))
        assert code == 5
        assert "conflict" in out
        forced = (*self.OPTIONS, "--force-conflicts")
        code, out, _ = planner.plan(manifest(backoffLimit=4), options=forced)
        assert code == 1
        assert json.loads(out)[0]["policies"][0]["new"] == 4


class TestRefused:
    """Exit code 5, and the message of the API server."""

    def test_invalid_pipeline_is_refused_with_the_field(self, planner: Planner) -> None:
        code, out, _ = planner.plan(manifest(backoffLimit=-1))
        assert code == 5
        assert "the InitPipeline is refused" in out
        assert "spec.backoffLimit" in out

    def test_unknown_field_is_refused(self, planner: Planner) -> None:
        code, out, _ = planner.plan(manifest(backofLimit=1))
        assert code == 5
        assert 'unknown field "spec.backofLimit"' in out

    def test_unknown_field_in_a_patch_is_named_without_the_object(self, planner: Planner) -> None:
        planner.apply(manifest())
        code, out, _ = planner.plan(manifest(backofLimit=1))
        assert code == 5
        unknown = 'strict decoding error: unknown field "spec.backofLimit"'
        assert out.splitlines()[1:] == [f"  the InitPipeline is refused: {unknown}"]

    def test_invalid_pod_is_refused_with_the_field(self, planner: Planner) -> None:
        code, out, _ = planner.plan(changed(lambda m: containers(m)[0].update(name="Not_valid")))
        assert code == 5
        assert "the Pod is refused" in out
        assert "Not_valid" in out

    @pytest.mark.parametrize("code", [404, 503])
    def test_pipeline_that_a_webhook_denies_with_any_code_is_refused(
        self, planner: Planner, tmp_path: Path, code: int
    ) -> None:
        message = 'admission webhook "w" denied the request: no rules'
        with FaultProxy(tmp_path) as proxy:
            config = str(proxy.kubeconfig(planner.kubeconfig))
            with proxy.inject(Answer(code, message), method="POST", path="/initpipelines"):
                result = planner.plan(manifest(), options=("--kubeconfig", config))
        assert (result.code, result.err) == (5, "")
        assert f"the InitPipeline is refused: {message}" in result.out

    def test_pod_that_violates_pod_security_is_refused(
        self, planner: Planner, api: client.ApiClient
    ) -> None:
        label = {"pod-security.kubernetes.io/enforce": "restricted"}
        body = {"metadata": {"labels": label}}
        client.CoreV1Api(api).patch_namespace(planner.env.namespace, body)
        code, out, _ = planner.plan(manifest())
        assert code == 5
        assert "violates PodSecurity" in out

    @pytest.mark.usefixtures("operator")
    def test_pod_of_a_pipeline_that_has_one_is_checked(self, planner: Planner) -> None:
        planner.apply(manifest())
        planner.env.wait_for_pod(1)
        assert planner.plan(changed(other_image))[0] == 1
        code, out, _ = planner.plan(changed(lambda m: containers(m)[0].update(name="Not_valid")))
        assert code == 5
        assert "the Pod is refused" in out


class TestPermissions:
    RULES = (
        {"apiGroups": [names.GROUP], "resources": [names.PLURAL], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
    )

    def test_user_without_create_pods_gets_the_permission_named(
        self, planner: Planner, api: client.ApiClient, control_plane: Cluster
    ) -> None:
        user = f"dev-{planner.env.namespace}"
        allow(api, planner.env.namespace, user, list(self.RULES))
        kubeconfig = str(control_plane.kubeconfig_for(user))
        code, out, _ = planner.plan(manifest(), options=("--kubeconfig", kubeconfig))
        assert code == 1
        assert f"kubectl auth can-i create pods -n {planner.env.namespace}" in out

    def test_user_without_write_gets_the_permission_named(
        self, planner: Planner, api: client.ApiClient, control_plane: Cluster
    ) -> None:
        user = f"viewer-{planner.env.namespace}"
        rule = {"apiGroups": [names.GROUP], "resources": [names.PLURAL], "verbs": ["get"]}
        allow(api, planner.env.namespace, user, [rule])
        kubeconfig = str(control_plane.kubeconfig_for(user))
        code, out, errors = planner.plan(manifest(), options=("--kubeconfig", kubeconfig))
        assert (code, out) == (3, "")
        assert f"kubectl auth can-i create initpipelines -n {planner.env.namespace}" in errors


class TestFiles:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            pytest.param("a: [", "not YAML", id="no YAML"),
            pytest.param("{kind: Pod, apiVersion: v1}", "no InitPipeline found", id="no pipeline"),
            pytest.param(
                json.dumps(manifest() | {"metadata": {"generateName": "a-"}}),
                "without metadata.name",
                id="no name",
            ),
            pytest.param(
                json.dumps(manifest() | {"metadata": {"name": "a", "namespace": "elsewhere"}}),
                'is in namespace "elsewhere"',
                id="another namespace",
            ),
        ],
    )
    def test_unusable_file_is_an_error(self, planner: Planner, content: str, message: str) -> None:
        file = planner.directory / "odd.yaml"
        file.write_text(content)
        code, out, errors = planner.plan(options=("-f", str(file)))
        assert (code, out) == (2, "")
        assert message in errors
        assert errors.splitlines()[-1].startswith("error: ")

    def test_missing_file_is_an_error(self, planner: Planner) -> None:
        code, _, errors = planner.plan(options=("-f", "nowhere.yaml"))
        assert code == 2
        assert errors == "error: nowhere.yaml: No such file or directory\n"

    def test_dash_reads_standard_input(
        self, planner: Planner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(manifest())))
        code, out, _ = planner.plan(options=("-f", "-"))
        assert code == 1
        assert "is created" in out

    def test_other_objects_in_a_directory_are_left_out(self, planner: Planner) -> None:
        folder = planner.directory / "folder"
        folder.mkdir()
        (folder / "a.yaml").write_text(json.dumps(manifest()))
        (folder / "b.yml").write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}")
        (folder / "notes.txt").write_text("no manifest")
        code, out, errors = planner.plan(options=("-f", str(folder)))
        assert code == 1
        assert out.count("is created") == 1
        assert errors == "ignored 1 object of another kind: use kubectl diff\n"
