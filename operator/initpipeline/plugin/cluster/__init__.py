"""The plugin's access to the cluster: kubeconfig, client, waiting and reading logs."""
