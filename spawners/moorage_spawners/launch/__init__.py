"""How any workload starts on one machine: a shim per process. Free of jupyterhub."""
