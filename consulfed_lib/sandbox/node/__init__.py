"""The node that runs pods: a kubelet whose containers are real Consul and Envoy processes, or work done here."""
