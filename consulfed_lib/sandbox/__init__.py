"""A federation to practise on: Kubernetes-shaped clusters with real Consul and real Envoy, on one machine.

A world of its own. It stands in for the clusters, so it imports none of the runbook's steps, and nothing of
the runbook imports it: the command line and the tests start it, everything else meets it as a kubeconfig.
"""
