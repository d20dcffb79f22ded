"""What each token may do: the rules of the policies that server-acl-init makes (consul-facts.md §4).

They are in the words of Consul 1.8, which later ones understand too: where those have a finer resource (`mesh`,
`peering`), it falls back to `operator`.
"""

from __future__ import annotations

AGENT = """
node_prefix "" { policy = "write" }
service_prefix "" { policy = "read" }
"""
"""For a server's own agent, and for client agents: register itself, resolve services."""

ANONYMOUS = """
node_prefix "" { policy = "read" }
service_prefix "" { policy = "read" }
"""
"""For requests without a token: DNS, and requests of another datacenter, whose local tokens are stripped."""

ACL_REPLICATION = """
acl = "write"
operator = "write"
agent_prefix "" { policy = "read" }
node_prefix "" { policy = "write" }
service_prefix "" {
  policy = "write"
  intentions = "read"
}
"""
"""For secondaries: replication itself, and all that their servers and their server-acl-init need besides."""

CONNECT_INJECT = """
acl = "write"
operator = "write"
node_prefix "" { policy = "write" }
service_prefix "" {
  policy = "write"
  intentions = "write"
}
"""
"""For the controllers: register gateways, write config entries, delete the tokens of pods that are gone."""

MESH_GATEWAY = """
operator = "read"
agent_prefix "" { policy = "read" }
service "mesh-gateway" { policy = "write" }
node_prefix "" { policy = "read" }
service_prefix "" { policy = "read" }
"""
"""For a mesh gateway: be one, and find every service, server and gateway of every datacenter.

`operator` and `agent` are for the sandbox's gateways: they read federation states over the HTTP API, where a
real one is told them by its xDS server."""

CONTROLLER = """
acl = "write"
operator = "write"
service_prefix "" {
  policy = "write"
  intentions = "write"
}
"""
"""For the separate config-entry controller of charts up to 0.49."""
