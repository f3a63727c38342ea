"""Helm, for what is written for its users. Built when first used; only tests of recipes need it."""

from typing import Final

from tests.cluster import build

HELM: Final = build.GoProgram(
    "helm", package="helm.sh/helm/v3/cmd/helm", duration="a minute on two cores, once per machine"
)
