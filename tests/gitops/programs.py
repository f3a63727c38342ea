"""Builds the programs of Argo CD and kstatus from their Go modules.

One module for both programs, with the versions that Argo CD itself is built with.
"""

from pathlib import Path
from typing import Final

from tests.cluster.build import GoProgram

ARGO_CD_MODULE: Final = "github.com/argoproj/argo-cd/v3"
_MODULE: Final = Path(__file__).parent / "go"

ENGINE: Final = GoProgram(
    "gitops-engine",
    package="./engine",
    module=_MODULE,
    duration="3 minutes on two cores, once per machine",
)
"""Argo CD's Lua engine and kstatus as a library."""

ARGO_CD: Final = GoProgram(
    "argocd",
    package=f"{ARGO_CD_MODULE}/cmd",
    module=_MODULE,
    # The binary selects its program by the name that it is called by.
    links=("argocd-application-controller", "argocd-repo-server", "argocd-server"),
    duration="5 minutes on two cores, once per machine",
)
