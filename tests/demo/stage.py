"""Before the first act: the CRD is known, the operator runs, the namespace is new."""

from collections.abc import Callable
from typing import Final

from initpipeline.api import names
from tests.demo import manifests
from tests.demo.api import CRDS, NAMESPACES, Object, collection
from tests.demo.errors import DemoError
from tests.demo.place import NAMESPACE, Place
from tests.demo.supervisor import Supervisor
from tests.demo.view import View

# On the namespace: that it is the demo's own, and may be deleted.
MARK: Final = "initpipeline.dev/demo"


def set_up(place: Place, supervisor: Supervisor, view: View) -> None:
    """What takes longest is begun first: deleting the namespace of an earlier demo."""
    _begin_to_delete_namespace(place, view)
    earlier = supervisor.stop_earlier()
    if earlier:
        view(f"stopped the operator of an earlier demo (pid {earlier})")
    _install_crd(place, view)
    supervisor.start()
    view(f"started the operator: initpipeline run, pid {supervisor.pid()}, log {supervisor.log}")
    _make_namespace(place, view)


def _begin_to_delete_namespace(place: Place, view: View) -> None:
    before = place.api.get(f"{NAMESPACES}/{NAMESPACE}")
    if before is None:
        return
    if MARK not in before["metadata"].get("labels", {}):
        raise DemoError(
            f'a namespace "{NAMESPACE}" is there that this demo did not make, and that it will '
            "not delete: rename or delete it first"
        )
    view(f"deleting the namespace {NAMESPACE} of an earlier demo")
    # A namespace waits 5 s before it deletes what is in it, and more for Pods that end slowly.
    place.api.delete(collection(names.KIND, NAMESPACE, names.API_VERSION))
    place.api.delete(f"{NAMESPACES}/{NAMESPACE}")


def _install_crd(place: Place, view: View) -> None:
    for crd in manifests.crds():
        name = crd["metadata"]["name"]
        place.api.apply(crd)
        _wait(place, CRDS, name, _established, f"the CRD {name} is not established")
        view(f"installed the CRD {name}")


def _make_namespace(place: Place, view: View) -> None:
    _wait(place, NAMESPACES, NAMESPACE, lambda one: one is None, "the old namespace is still there")
    metadata = {"name": NAMESPACE, "labels": {MARK: "true"}}
    place.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    accounts = collection("ServiceAccount", NAMESPACE)
    # Until then the API server refuses every Pod.
    _wait(place, accounts, "default", bool, "the namespace has no default ServiceAccount")
    view(f"made the namespace {NAMESPACE}")


def _established(crd: Object | None) -> bool:
    conditions = (crd or {}).get("status", {}).get("conditions")  # null at first
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions or ())


def _wait(
    place: Place, path: str, name: str, holds: Callable[[Object | None], bool], failure: str
) -> None:
    if not place.api.until(path, name, holds, place.patience):
        raise DemoError(f"{failure} after {place.patience:.0f} s")
