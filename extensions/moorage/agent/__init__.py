"""The agent: runs inside a cluster, beside the head or scheduler, in the project's environment.

It reports to the service over HTTP with the cluster's own token, and carries out its orders; the service itself never
speaks an engine's protocol. Besides the engine it needs the standard library only.
"""
