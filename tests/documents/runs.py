"""Which test runs each command of the documents."""

from typing import Final

from tests.transcripts.transcript import load

Command = tuple[str, str]
"""The path of a document, and the beginning of a command in it, which names one or several."""

JOURNEY: Final[tuple[tuple[str, str], ...]] = (
    ("README.md", "Try it on your cluster"),
    ("docs/install.md", "Install for all namespaces"),
    ("docs/install.md", "Replicas"),
    ("docs/install.md", "Install the kubectl plugin"),
    ("docs/install.md", "Probes"),
    ("docs/install.md", "Metrics"),
    ("docs/install.md", "Troubleshooting"),
    ("docs/metrics.md", "Grafana"),
    ("docs/logs.md", "Follow a run"),
    ("docs/traces.md", "Spans"),
    ("docs/runbooks.md", "*"),
    ("docs/operations.md", "First steps of a diagnosis"),
    ("docs/operations.md", "Scale"),
    ("docs/operations.md", "Back up"),
    ("docs/operations.md", "Restore"),
    ("docs/scale.md", "Label existing InitPipelines"),
    ("docs/scale.md", "Change the number of replicas or shards"),
    ("docs/traces.md", "Switch them on"),
    ("docs/install.md", "Permissions of the operator"),
    ("docs/install.md", "Upgrade"),
    ("docs/upgrade.md", "Upgrade"),
    ("docs/install.md", "Install for some namespaces"),
    ("docs/install.md", "Uninstall"),
    ("docs/install.md", "Install with Helm"),
    ("docs/upgrade.md", "Upgrade with Helm"),
    ("docs/install.md", "Several operators"),
)
"""The sections whose commands ``make docs`` runs, one after the other, on one cluster. ``*``: all
sections of the document."""

_TOP: Final = "kubectl -n initpipeline-system top pods"
_IMAGE: Final = "tests/programs/test_image.py builds the image of the Dockerfile without Docker"
_TRANSCRIPTS: Final = "tests/unit/plugin/test_transcripts.py renders its output"
_METRICS_SERVER: Final = "the test cluster has no metrics server"
_WAIT: Final = "tests/e2e/test_recipes.py runs the same condition"
_JSON: Final = "tests/contract/test_plugin.py reads the JSON, without jq"
_SIGNED: Final = "it needs a published release"

ELSEWHERE: Final[dict[Command, str]] = {
    ("README.md", "docker build"): _IMAGE,
    ("README.md", "make test"): "it runs this test",
    ("README.md", "make demo"): "tests/e2e/test_examples.py applies the same pipeline",
    ("CONTRIBUTING.md", "make venv lint unit"): "make test contains it",
    ("docs/argocd.md", "kubectl"): "tests/argocd applies both files to a real Argo CD",
    ("docs/benchmarks.md", "make bench"): "tests/unit/test_bench.py publishes a recorded result",
    (
        "docs/dashboard.md",
        "kubectl initpipeline dashboard",
    ): "tests/contract/test_dashboard.py runs it",
    ("docs/development.md", "make"): "tests/programs/test_cluster.py starts and stops the cluster",
    ("docs/development.md", "export KUBECONFIG"): "tests/programs/test_cluster.py prints the path",
    ("docs/development.md", "kubectl apply"): "the journey applies the same files",
    ("docs/development.md", "PATH=$PWD"): "the journey runs the same command",
    ("docs/development.md", ".venv/bin/python -m pytest"): "make test contains these files",
    ("docs/development.md", ".venv/bin/python -m tests.traces"): "it needs a scenario that is new",
    ("docs/development.md", "INITPIPELINE_"): "make oracle, make test and make deaths set these",
    ("docs/development.md", "jq"): "it needs the audit log of a cluster that was used",
    ("docs/install.md", "docker"): _IMAGE,
    ("docs/install.md", "pipx install"): "the journey has the plugin in its PATH",
    **{("docs/plugin.md", one.command): _TRANSCRIPTS for one in load()},
    ("docs/plugin.md", "kubectl wait ipl/NAME"): _WAIT,
    ("docs/plugin.md", "kustomize build"): "tests/contract/test_plan.py plans a file",
    ("docs/plugin.md", "kubectl initpipeline rerun"): "tests/contract/test_plugin.py runs it",
    ("docs/plugin.md", "kubectl initpipeline logs shop -f"): "tests/e2e/test_plugin.py runs it",
    ("docs/plugin.md", "kubectl initpipeline status shop -o json"): _JSON,
    ("docs/plugin.md", "kubectl initpipeline explain shop -o json"): _JSON,
    ("docs/reference.md", "kubectl wait ipl/report"): _WAIT,
    ("docs/reference.md", "kubectl annotate ipl shop"): "tests/e2e/test_recipes.py does the same",
    ("docs/release.md", "sha256sum"): "tests/programs/test_release.py checks the sums",
    ("docs/release.md", "cosign"): _SIGNED,
    ("docs/release.md", "gh"): _SIGNED,
    ("docs/release.md", "skopeo"): "it asks a registry",
    ("docs/release.md", "make release"): "tests/programs/test_release.py runs it",
    ("docs/runbooks.md", _TOP): _METRICS_SERVER,
    ("docs/upgrade.md", "kubectl get ipl"): "tests/contract/test_version_skew.py migrates objects",
    ("docs/upgrade.md", "kubectl patch crd"): "tests/contract/test_version_skew.py does the same",
}
"""What else runs a command, or why none can."""


def elsewhere(document: str, command: str) -> list[Command]:
    """Return the entries of ``ELSEWHERE`` that name this command."""
    return [key for key in ELSEWHERE if key[0] == document and command.startswith(key[1])]


def in_journey(document: str, heading: str) -> bool:
    """Return whether the section is a part of the journey."""
    return (document, heading) in JOURNEY or (document, "*") in JOURNEY
