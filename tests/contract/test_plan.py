"""``kubectl initpipeline plan`` on a real API server: what it shows is what then happens."""

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
from initpipeline.plugin import main
from initpipeline.plugin.report.apply_patch import last_applied, merge_patch
from tests.builders import NAME, pipeline, running_pod
from tests.cluster.cluster import Cluster
from tests.contract.conftest import Kubectl, allow
from tests.contract.operator_world import World, condition, ready

pytest_plugins = ["tests.contract.operator_fixtures"]

Object = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """The namespace of a test, the plugin and kubectl."""

    world: World
    kubectl: Kubectl
    kubeconfig: Path
    directory: Path
    capsys: pytest.CaptureFixture[str]

    def plan(self, *objects: Object, options: tuple[str, ...] = ()) -> tuple[int, str, str]:
        """The exit code, and what was printed."""
        file = self.directory / "file.json"
        file.write_text("\n".join(map(json.dumps, objects)))
        where = ("-n", self.world.namespace, "--kubeconfig", str(self.kubeconfig))
        code = main.main(["plan", "-f", str(file), *where, *options])
        return (code, *self.capsys.readouterr())

    def planned(self, *objects: Object) -> Any:
        """The first plan, as data."""
        return json.loads(self.plan(*objects, options=("-o", "json"))[1])[0]

    def apply(self, manifest: Object) -> None:
        self.kubectl("apply", "-n", self.world.namespace, "-f", "-", stdin=manifest)


@pytest.fixture
def place(
    world: World,
    kubectl: Kubectl,
    control_plane: Cluster,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Place:
    return Place(world, kubectl, control_plane.kubeconfig, tmp_path, capsys)


def manifest(**policies: Any) -> Object:
    raw = pipeline().raw()
    return {
        "apiVersion": raw["apiVersion"],
        "kind": raw["kind"],
        "metadata": {"name": NAME},
        "spec": {**raw["spec"], **policies},
    }


def changed(change: Callable[[Object], Any], of: Object | None = None) -> Object:
    new = copy.deepcopy(of or manifest())
    change(new)
    return new


def containers(of: Object) -> list[Object]:
    found: list[Object] = of["spec"]["template"]["spec"]["initContainers"]
    return found


def other_image(of: Object) -> None:
    containers(of)[1]["image"] = "busybox:2"


def spelled(of: Object) -> None:
    containers(of)[0] |= {"imagePullPolicy": "Always", "env": [], "resources": {"limits": {}}}


class TestForetold:
    """``plan`` changes nothing, and applying the file then does what it has shown."""

    @pytest.mark.parametrize(
        ("change", "code", "kind", "run"),
        [
            pytest.param(lambda _: None, 0, "nothing", 1, id="the same"),
            pytest.param(spelled, 0, "nothing", 1, id="another spelling"),
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
    def test_of_a_pipeline_that_is_ready(
        self, place: Place, change: Callable[[Object], Any], code: int, kind: str, run: int
    ) -> None:
        place.apply(manifest())
        place.world.live(running_pod())
        place.world.wait("Ready", ready)
        before = place.world.pipeline()
        new = changed(change)

        answered, _, errors = place.plan(new)
        assert (answered, errors) == (code, "")
        plan = place.planned(new)
        assert plan["plan"] == kind
        assert plan.get("run", {"number": 1})["number"] == run
        assert place.world.pipeline() == before

        place.apply(new)
        generation = (place.world.pipeline() or {})["metadata"]["generation"]
        place.world.wait(
            "the new generation is observed",
            lambda s: s["observedGeneration"] == generation and s["run"]["number"] >= run,
        )
        assert place.world.status()["run"]["number"] == run
        if kind == "run":
            assert place.world.status()["run"]["trigger"] == plan["run"]["trigger"]

    @pytest.mark.usefixtures("operator")
    def test_of_a_run_it_shows_the_fields_and_what_is_interrupted(self, place: Place) -> None:
        place.apply(manifest())
        place.world.live(running_pod())
        place.world.wait("Ready", ready)
        code, out, _ = place.plan(changed(other_image))
        lines = [line.strip() for line in out.splitlines()]
        assert code == 1
        assert lines[0].endswith("a new run starts")
        assert "run 2 starts (SpecChanged)" in lines
        assert any(line.startswith("interrupts run 1, Ready for ") for line in lines)
        assert 'spec.initContainers[1].image: "busybox" -> "busybox:2"' in lines

    @pytest.mark.usefixtures("operator")
    def test_of_a_suspension(self, place: Place) -> None:
        place.apply(manifest())
        place.world.live(running_pod())
        place.world.wait("Ready", ready)
        plan = place.planned(manifest(suspend=True))
        assert plan["plan"] == "policy"
        assert plan["effects"] == ["the Pod is deleted"]
        assert plan["interrupts"].startswith("run 1, Ready for")
        place.apply(manifest(suspend=True))
        place.world.wait("suspended", lambda s: condition(s, "Suspended"))
        plan = place.planned(manifest())
        assert plan["run"] == {"number": 2, "trigger": "Resumed"}

    @pytest.mark.usefixtures("operator")
    def test_field_removed_from_the_file_is_removed(self, place: Place) -> None:
        place.apply(manifest(backoffLimit=3))
        place.world.wait_for_pod(1)
        [policy] = place.planned(manifest())["policies"]
        assert (policy["field"], policy["old"], policy["new"]) == ("backoffLimit", 3, 0)

    def test_of_a_new_pipeline(self, place: Place) -> None:
        code, out, _ = place.plan(manifest())
        assert code == 1
        assert out.splitlines()[0].endswith("is created")
        assert place.planned(manifest())["run"] == {"number": 1, "trigger": "Created"}
        assert place.world.pipeline() is None

    def test_of_a_new_pipeline_that_is_suspended(self, place: Place) -> None:
        plan = place.planned(manifest(suspend=True))
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
    def test_is_that_of_kubectl(self, place: Place, api: client.ApiClient, new: Object) -> None:
        """Even if another client has changed the object since the file was applied."""
        place.apply(LABELLED)
        others = {"metadata": {"labels": {"c": "3"}}, "spec": {"rerunPolicy": "Never"}}
        place.world.patch(others)
        live = place.world.pipeline()
        assert live is not None
        apply = ("apply", "-n", place.world.namespace, "--dry-run=server", "-o", "json", "-f", "-")
        expected = json.loads(place.kubectl(*apply, stdin=new))
        custom = client.CustomObjectsApi(api)
        merged = custom.patch_namespaced_custom_object(
            names.GROUP,
            names.VERSION,
            place.world.namespace,
            names.PLURAL,
            NAME,
            merge_patch(last_applied(live), new, live),
            dry_run="All",
        )
        assert merged["spec"] == expected["spec"]
        assert merged["metadata"].get("labels") == expected["metadata"].get("labels")


class TestServerSide:
    OPTIONS = ("--server-side", "-o", "json")

    def test_field_that_the_manager_has_no_longer_is_removed(self, place: Place) -> None:
        where = ("-n", place.world.namespace)
        place.kubectl("apply", "--server-side", *where, "-f", "-", stdin=manifest(backoffLimit=3))
        code, out, _ = place.plan(manifest(), options=self.OPTIONS)
        [policy] = json.loads(out)[0]["policies"]
        assert (code, policy["field"], policy["new"]) == (1, "backoffLimit", 0)

    def test_field_of_another_manager_is_a_conflict(self, place: Place) -> None:
        place.world.create(pipeline().policy(backoffLimit=3))
        code, out, _ = place.plan(manifest(backoffLimit=4), options=("--server-side",))
        assert code == 5
        assert "conflict" in out
        forced = (*self.OPTIONS, "--force-conflicts")
        code, out, _ = place.plan(manifest(backoffLimit=4), options=forced)
        assert code == 1
        assert json.loads(out)[0]["policies"][0]["new"] == 4


class TestRefused:
    """Exit code 5, and the message of the API server."""

    def test_invalid_pipeline(self, place: Place) -> None:
        code, out, _ = place.plan(manifest(backoffLimit=-1))
        assert code == 5
        assert "the InitPipeline is refused" in out
        assert "spec.backoffLimit" in out

    def test_unknown_field(self, place: Place) -> None:
        code, out, _ = place.plan(manifest(backofLimit=1))
        assert code == 5
        assert 'unknown field "spec.backofLimit"' in out

    def test_unknown_field_in_a_patch_is_named_without_the_object(self, place: Place) -> None:
        place.apply(manifest())
        code, out, _ = place.plan(manifest(backofLimit=1))
        assert code == 5
        unknown = 'strict decoding error: unknown field "spec.backofLimit"'
        assert out.splitlines()[1:] == [f"  the InitPipeline is refused: {unknown}"]

    def test_invalid_pod(self, place: Place) -> None:
        code, out, _ = place.plan(changed(lambda m: containers(m)[0].update(name="Not_valid")))
        assert code == 5
        assert "the Pod is refused" in out
        assert "Not_valid" in out

    def test_pod_refused_by_the_namespace(self, place: Place, api: client.ApiClient) -> None:
        label = {"pod-security.kubernetes.io/enforce": "restricted"}
        body = {"metadata": {"labels": label}}
        client.CoreV1Api(api).patch_namespace(place.world.namespace, body)
        code, out, _ = place.plan(manifest())
        assert code == 5
        assert "violates PodSecurity" in out

    @pytest.mark.usefixtures("operator")
    def test_pod_of_a_pipeline_that_has_one_is_checked(self, place: Place) -> None:
        place.apply(manifest())
        place.world.wait_for_pod(1)
        assert place.plan(changed(other_image))[0] == 1
        code, out, _ = place.plan(changed(lambda m: containers(m)[0].update(name="Not_valid")))
        assert code == 5
        assert "the Pod is refused" in out


class TestPermissions:
    RULES = (
        {"apiGroups": [names.GROUP], "resources": [names.PLURAL], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
    )

    def test_user_without_create_pods_gets_the_permission_named(
        self, place: Place, api: client.ApiClient, control_plane: Cluster
    ) -> None:
        user = f"dev-{place.world.namespace}"
        allow(api, place.world.namespace, user, list(self.RULES))
        kubeconfig = str(control_plane.kubeconfig_for(user))
        code, out, _ = place.plan(manifest(), options=("--kubeconfig", kubeconfig))
        assert code == 1
        assert f"kubectl auth can-i create pods -n {place.world.namespace}" in out

    def test_user_without_write_gets_the_permission_named(
        self, place: Place, api: client.ApiClient, control_plane: Cluster
    ) -> None:
        user = f"viewer-{place.world.namespace}"
        rule = {"apiGroups": [names.GROUP], "resources": [names.PLURAL], "verbs": ["get"]}
        allow(api, place.world.namespace, user, [rule])
        kubeconfig = str(control_plane.kubeconfig_for(user))
        code, out, errors = place.plan(manifest(), options=("--kubeconfig", kubeconfig))
        assert (code, out) == (3, "")
        assert f"kubectl auth can-i create initpipelines -n {place.world.namespace}" in errors


class TestFiles:
    @pytest.mark.parametrize(
        ("content", "words"),
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
    def test_unusable_file_is_an_error(self, place: Place, content: str, words: str) -> None:
        file = place.directory / "odd.yaml"
        file.write_text(content)
        code, out, errors = place.plan(options=("-f", str(file)))
        assert (code, out) == (2, "")
        assert words in errors
        assert errors.splitlines()[-1].startswith("error: ")

    def test_missing_file_is_an_error(self, place: Place) -> None:
        code, _, errors = place.plan(options=("-f", "nowhere.yaml"))
        assert code == 2
        assert errors == "error: nowhere.yaml: No such file or directory\n"

    def test_standard_input(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(manifest())))
        code, out, _ = place.plan(options=("-f", "-"))
        assert code == 1
        assert "is created" in out

    def test_directory_with_other_objects(self, place: Place) -> None:
        folder = place.directory / "folder"
        folder.mkdir()
        (folder / "a.yaml").write_text(json.dumps(manifest()))
        (folder / "b.yml").write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}")
        (folder / "notes.txt").write_text("no manifest")
        code, out, errors = place.plan(options=("-f", str(folder)))
        assert code == 1
        assert out.count("is created") == 1
        assert errors == "ignored 1 object of another kind: use kubectl diff\n"
