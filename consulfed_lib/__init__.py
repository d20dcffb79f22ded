"""Federate Consul datacenters across Kubernetes clusters over mesh gateways.

Nothing is imported here: a command or a notebook imports only the rooms that it needs.
"""

__version__ = "0.1.0"
