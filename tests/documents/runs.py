"""Which test runs each command of the documents."""

import re
from typing import Final

from tests.transcripts.transcript import load

Command = tuple[str, str]
"""The path of a document, and a command in it, without comments and line breaks."""

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
_CLUSTER: Final = "tests/programs/test_cluster.py starts and stops the cluster"
_SAME_FILES: Final = "the journey runs it, with the same files"

_WORKFLOW: Final = (
    "--certificate-oidc-issuer https://token.actions.githubusercontent.com --certificate-identity "
    "https://github.com/OWNER/REPOSITORY/.github/workflows/release.yml@refs/tags/vVERSION"
)
_SUCCEEDED: Final = (
    """--for=jsonpath='{.status.conditions[?(@.type=="Ready")].reason}'=PodSucceeded"""
)

_BY_DOCUMENT: Final[dict[str, dict[str, str]]] = {
    "README.md": {
        "docker build -t $IMAGE . && docker push $IMAGE": _IMAGE,
        "make test": "it runs this test",
        "make demo": "tests/e2e/test_examples.py applies the same pipeline",
    },
    "CONTRIBUTING.md": {"make venv lint unit": "make test contains it"},
    "docs/argocd.md": dict.fromkeys(
        (
            "kubectl -n argocd patch configmap argocd-cm "
            "--patch-file manifests/argocd/argocd-cm.yaml",
            "kubectl apply -f manifests/argocd/application.yaml",
        ),
        "tests/argocd applies both files to a real Argo CD",
    ),
    "docs/benchmarks.md": dict.fromkeys(
        (
            'make bench ARGS="--all --rounds 5 --json bench.json"',
            'make bench ARGS="--from bench.json --publish"',
        ),
        "tests/unit/test_bench.py publishes a recorded result",
    ),
    "docs/dashboard.md": {
        "kubectl initpipeline dashboard -A": "tests/contract/test_dashboard.py runs it"
    },
    "docs/development.md": {
        "make venv lint unit": "make test contains it",
        "make cluster-up": _CLUSTER,
        "make cluster-down": _CLUSTER,
        "export KUBECONFIG=$(make cluster-kubeconfig)": "tests/programs/test_cluster.py prints it",
        "make run": "the end-to-end tests run the same module",
        "kubectl apply -f crds/": _SAME_FILES,
        "kubectl apply -f manifests/examples/volume-permissions.yaml": _SAME_FILES,
        "PATH=$PWD/.venv/bin:$PATH kubectl initpipeline explain notes": _SAME_FILES,
        **dict.fromkeys(
            (
                ".venv/bin/python -m pytest tests/unit/runtime/test_leader.py",
                ".venv/bin/python -m pytest tests/contract/test_leader.py",
                ".venv/bin/python -m pytest tests/contract/test_sharing.py",
                ".venv/bin/python -m pytest "
                "tests/e2e/test_triggers.py::test_rerun_token_starts_one_run_only",
            ),
            "make test contains these files",
        ),
        ".venv/bin/python -m tests.traces record my-scenario": "it needs a scenario that is new",
        **dict.fromkeys(
            (
                "INITPIPELINE_SEED=1234 INITPIPELINE_SEQUENCES=1 .venv/bin/python -m pytest "
                "tests/unit/model/test_oracle.py -k several",
                "INITPIPELINE_STORIES=20000 .venv/bin/python -m pytest "
                "tests/unit/model/test_state_machine.py",
            ),
            "make oracle and make test set these",
        ),
        """jq -r 'select(.stage == "ResponseComplete" and .userAgent[:12] == "initpipeline") | """
        "[.verb, .objectRef.resource, .objectRef.subresource, .objectRef.name] | @tsv' "
        "/var/tmp/initpipeline/initpipeline/audit.log | sort | uniq -c": (
            "it needs the audit log of a cluster that was used"
        ),
    },
    "docs/install.md": {
        "docker build -t registry.example/initpipeline:0.1.0 .": _IMAGE,
        "docker push registry.example/initpipeline:0.1.0": _IMAGE,
        "pipx install .": "the journey has the plugin in its PATH",
    },
    "docs/plugin.md": {
        **{one.command: _TRANSCRIPTS for one in load()},
        f"kubectl wait ipl/NAME {_SUCCEEDED}": _WAIT,
        "kustomize build overlays/prod | kubectl initpipeline plan -f - || test $? = 1": (
            "tests/contract/test_plan.py plans a file"
        ),
        "kubectl initpipeline rerun shop --wait --timeout 10m": (
            "tests/contract/test_plugin.py runs it"
        ),
        "kubectl initpipeline logs shop -f": "tests/e2e/test_plugin.py runs it",
        "kubectl initpipeline status shop -o json "
        """| jq -r '.steps[] | select(.state == "failed").name'""": _JSON,
        "kubectl initpipeline explain shop -o json | jq -r '.operator.absent // empty'": _JSON,
    },
    "docs/reference.md": {
        f"kubectl wait ipl/report {_SUCCEEDED}": _WAIT,
        'kubectl annotate ipl shop initpipeline.dev/rerun="$(git rev-parse HEAD)-$(date +%s)" '
        "--overwrite": "tests/e2e/test_recipes.py does the same",
    },
    "docs/release.md": {
        "sha256sum --check SHA256SUMS": "tests/programs/test_release.py checks the sums",
        "cosign verify-blob SHA256SUMS --bundle SHA256SUMS.sigstore.json " + _WORKFLOW: _SIGNED,
        "gh attestation verify initpipeline-VERSION-py3-none-any.whl --repo OWNER/REPOSITORY": (
            _SIGNED
        ),
        f"cosign verify ghcr.io/OWNER/REPOSITORY/operator@sha256:DIGEST {_WORKFLOW}": _SIGNED,
        "skopeo inspect --format '{{.Digest}}' "
        "docker://docker.io/library/python:3.13-slim-bookworm": "it asks a registry",
        "make release BASE=docker.io/library/python:3.13-slim-bookworm@sha256:DIGEST": (
            "tests/programs/test_release.py runs it"
        ),
    },
    "docs/runbooks.md": dict.fromkeys((_TOP, f"{_TOP} --containers"), _METRICS_SERVER),
    "docs/upgrade.md": {
        "kubectl get ipl --all-namespaces -o json | kubectl replace -f -": (
            "tests/contract/test_version_skew.py migrates objects"
        ),
        "kubectl patch crd initpipelines.initpipeline.dev --subresource=status --type=merge "
        """-p '{"status": {"storedVersions": ["v1beta1"]}}'""": (
            "tests/contract/test_version_skew.py does the same"
        ),
    },
}

ELSEWHERE: Final[dict[Command, str]] = {
    (document, command): reason
    for document, reasons in _BY_DOCUMENT.items()
    for command, reason in reasons.items()
}
"""What else runs a command, or why none can."""


def named(document: str, command: str) -> Command:
    """Return the name of a command, without its comment and its line breaks."""
    return document, " ".join(re.sub(r"\s+# .*|\\\n", " ", command).split())


def is_elsewhere(document: str, command: str) -> bool:
    """Return whether ``ELSEWHERE`` names this command."""
    return named(document, command) in ELSEWHERE


def in_journey(document: str, heading: str) -> bool:
    """Return whether the section is a part of the journey."""
    return (document, heading) in JOURNEY or (document, "*") in JOURNEY
