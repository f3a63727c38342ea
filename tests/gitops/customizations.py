"""Generates argocd-cm.yaml from the scripts in manifests/argocd/resource_customizations.

The scripts have the layout of the directory of that name in Argo CD's repository.
"""

from pathlib import Path
from typing import Any, Final

import yaml

from initpipeline.api import names

MANIFESTS: Final = Path(__file__).parents[2] / "manifests" / "argocd"
SCRIPTS: Final = MANIFESTS / "resource_customizations" / names.GROUP / names.KIND
FRAGMENT: Final = MANIFESTS / "argocd-cm.yaml"
HEADER: Final = """\
# Generated from resource_customizations by "python -m tests.gitops generate". Do not edit.
#
#   kubectl -n argocd patch configmap argocd-cm --patch-file manifests/argocd/argocd-cm.yaml
"""

Override = dict[str, str]


def override() -> Override:
    """Returns the values of the fragment: one text for health, and one for all actions."""
    actions = {
        "discovery.lua": _read("actions/discovery.lua"),
        "definitions": [
            {"name": name, "action.lua": _read(f"actions/{name}/action.lua")} for name in actions_()
        ],
    }
    return {"health.lua": _read("health.lua"), "actions": _text(actions)}


def actions_() -> list[str]:
    """Returns the names of the actions."""
    return sorted(script.parent.name for script in SCRIPTS.glob("actions/*/action.lua"))


def fragment() -> str:
    """Returns the text of argocd-cm.yaml."""
    kind = f"{names.GROUP}_{names.KIND}"
    content = override()
    data = {
        f"resource.customizations.health.{kind}": content["health.lua"],
        f"resource.customizations.actions.{kind}": content["actions"],
    }
    return HEADER + _text(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": "argocd-cm",
                "namespace": "argocd",
                "labels": {"app.kubernetes.io/part-of": "argocd"},
            },
            "data": data,
        }
    )


def read_yaml(path: str) -> Any:
    """Returns the content of a YAML file beside the scripts."""
    return yaml.safe_load(_read(path))


def _read(path: str) -> str:
    return (SCRIPTS / path).read_text()


class _Dumper(yaml.SafeDumper):
    """A YAML dumper that writes strings of several lines as block scalars."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _text(document: Any) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100)
