"""The fragment of argocd-cm is what the scripts and their tests are."""

from tests.gitops.customizations import FRAGMENT, fragment


def test_the_fragment_is_made_of_the_scripts() -> None:
    assert FRAGMENT.read_text() == fragment(), 'run "python -m tests.gitops generate"'
