"""The shim: the small process that stands over one workload process and outlives hub and service.

Standard library only and free of every import that is not needed, for one runs per process of every workload.
"""
