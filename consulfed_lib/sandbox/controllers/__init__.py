"""What kube-controller-manager and the scheduler do, as clients of the API server."""
