"""Helm, which the tests of the recipes run. It is built when it is first used."""

from typing import Final

from tests.cluster import build

HELM: Final = build.GoProgram(
    "helm", package="helm.sh/helm/v3/cmd/helm", duration="a minute on two cores, once per machine"
)
