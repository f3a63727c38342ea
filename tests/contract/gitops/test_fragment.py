"""manifests/argocd/argocd-cm.yaml, which is generated."""

from tests.gitops.customizations import FRAGMENT, fragment


def test_fragment_is_generated_from_the_scripts() -> None:
    assert FRAGMENT.read_text() == fragment(), "run: python -m tests.gitops generate"
