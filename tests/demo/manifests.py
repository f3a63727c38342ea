"""What is applied: the CRD, and the example that the demo plays."""

from pathlib import Path
from typing import Final

import yaml

from tests.demo.api import Object

ROOT: Final = Path(__file__).parents[2]
CRD_FILES: Final = ROOT / "crds"
DEMO_FILE: Final = ROOT / "manifests/examples/demo.yaml"


def crds() -> list[Object]:
    """The CRDs, as `kubectl apply -f crds/` would find them."""
    return [one for file in sorted(CRD_FILES.glob("*.yaml")) for one in _objects(file)]


def demo() -> tuple[list[Object], list[Object]]:
    """The example, and apart from it the Pods, which come later."""
    objects = _objects(DEMO_FILE)
    pods = [one for one in objects if one["kind"] == "Pod"]
    return [one for one in objects if one not in pods], pods


def _objects(file: Path) -> list[Object]:
    return [one for one in yaml.safe_load_all(file.read_text()) if one]
