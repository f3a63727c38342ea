"""The operator on a real Kubernetes, with a real kubelet: what a user would see."""
