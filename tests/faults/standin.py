"""An environment whose engines are stand-ins: heads and workers that only sleep, an agent that reports them as an engine's would.

It lets the service start, watch, scale and stop clusters with real shims, at some milliseconds and megabytes each.
"""

import json
import sys
from pathlib import Path

PACKAGES = {"ray": "2.60.0", "aiohttp-cors": "0.8", "distributed": "2026.8.0", "bokeh": "3.9"}

# What the service calls: <environment>/bin/python -m ray.scripts.scripts ... | -m dask ... | -m moorage.agent
PYTHON = """#!/bin/sh
case "$2" in
  moorage.agent) exec {python} -I -S "$(dirname "$0")/agent.py" ;;
  *) printf '%s %s' "$RAY_CLOUD_INSTANCE_ID" "$*" > "role-$$"; exec sleep 1000000 ;;
esac
"""

# The workers that are alive, by the notes that they left; each note's name ends with its process.
AGENT = """
import http.client, json, os, re, time
from urllib.parse import urlsplit
environ = os.environ
parts = urlsplit(environ["MOORAGE_API_URL"])
path = parts.path.rstrip("/") + "/api/v1/agent/reports"
headers = {"Authorization": "Bearer " + environ["MOORAGE_TOKEN"], "Content-Type": "application/json"}

def workers():
    for name in os.listdir("."):
        if name.startswith("role-") and os.path.exists("/proc/" + name[5:]):
            found = re.search("worker-[0-9]+", open(name).read())
            if found:
                yield {"name": found[0], "busy": False, "idle_s": 0.0}

while True:
    report = {"generation": int(environ["MOORAGE_GENERATION"]), "ready": True, "versions": {"python": "3"},
              "workers": list(workers()), "wanted": 0, "clients": 0}
    try:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
        connection.request("POST", path, json.dumps(report), headers)
        token = json.loads(connection.getresponse().read()).get("token")
        if token:
            headers["Authorization"] = "Bearer " + token
        connection.close()
    except (OSError, ValueError):
        pass
    time.sleep(0.2)
"""

# What the service calls for a run: <server_python> -I -m moorage_jobs.runner order.json. It runs until it is cancelled.
RUNNER = """#!/bin/sh
exec sleep 1000000
"""


def make_environment(folder: Path) -> None:
    """At `folder`, for every uid to read."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text(PYTHON.format(python=sys.executable))
    (folder / "bin" / "agent.py").write_text(AGENT)
    record = {
        "digest": folder.name, "python": "3.11.2", "architecture": "x86_64", "created_at": "2026-11-21T06:00:00+00:00",
        "from_source": False, "packages": PACKAGES,
    }  # fmt: skip
    (folder / "moorage-environment.json").write_text(json.dumps(record))
    (folder / "moorage-lock.txt").write_text("")
    (folder / "pyvenv.cfg").write_text("version_info = 3.11.2\n")
    (folder / "bin" / "runner").write_text(RUNNER)
    for path in (folder, folder / "bin", folder / "bin" / "python", folder / "bin" / "runner"):
        path.chmod(0o755)
    for path in (
        folder / "bin" / "agent.py",
        folder / "moorage-environment.json",
        folder / "moorage-lock.txt",
        folder / "pyvenv.cfg",
    ):
        path.chmod(0o644)
