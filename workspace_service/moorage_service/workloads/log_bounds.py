"""Logs of workloads are the state folder's to hold: one that prints for ever must not fill the disk for all."""

from moorage_service.context import Context
from moorage_spawners.launch import log_files


def sweep(context: Context) -> None:
    """Shortens what has grown too long; its end stays."""
    for log in context.machine.root.glob("*/*/*/log"):
        log_files.shorten(log, context.settings.workload_log_bytes)
