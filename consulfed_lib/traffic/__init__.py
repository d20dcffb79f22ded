"""A trial of service traffic: a small service in one datacenter, called from another over mTLS through the gateways.

settings                where, with which images, between which datacenters
manifests, objects      what is made in each cluster, and how it is found again and deleted
calls                   one call and what its outcome means
trial                   the whole of it, step by step, with what was seen
"""
