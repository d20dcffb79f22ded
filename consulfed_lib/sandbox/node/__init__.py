"""The node that runs pods: a kubelet whose containers are real Consul and Envoy, or work done here."""
