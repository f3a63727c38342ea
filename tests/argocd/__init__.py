"""InitPipelines in git, synced by a real Argo CD: ``make argocd``."""
