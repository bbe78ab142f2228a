"""How notebooks start."""

from traitlets.config import Config

from moorage_hub.settings import HubSettings
from moorage_hub.state import token_path
from moorage_spawners.local import ProjectLocalSpawner


def configure_spawner(c: Config, settings: HubSettings) -> None:
    c.JupyterHub.spawner_class = ProjectLocalSpawner
    c.JupyterHub.allow_named_servers = True
    c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}  # the progress page at once
    c.Spawner.poll_interval = settings.poll_s
    c.Spawner.start_timeout = settings.start_timeout_s
    c.Spawner.http_timeout = 30
    c.ProjectLocalSpawner.state_folder = str(settings.state)
    c.ProjectSpawner.service_url = settings.service_url
    c.ProjectSpawner.address = settings.public_url
    c.ProjectSpawner.token_file = str(token_path(settings.state, "hub-to-service"))
    c.ProjectLocalSpawner.server_python = settings.server_python
    c.ProjectSpawner.default_cpu = settings.notebook_cpu
    c.ProjectSpawner.default_memory = settings.notebook_memory_bytes
    c.ProjectSpawner.stop_grace_s = settings.stop_grace_s
    c.ProjectSpawner.session_check_s = settings.session_check_s
