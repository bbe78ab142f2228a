"""The papermill runner: one process that executes one notebook and reports what it sees.

It runs in the server environment (extra `runner`); the kernel it starts is the project environment's own Python. Usable
alone: `python -m moorage_jobs.runner ORDER.json`, with or without a service to report to.
"""
