"""Access to the cluster: kubeconfig, API client, waiting for a state, reading logs."""
