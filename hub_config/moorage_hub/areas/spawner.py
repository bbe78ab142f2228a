"""How notebooks start."""

from traitlets.config import Config

from moorage_hub.errors import BadSettings
from moorage_hub.settings import HubSettings
from moorage_hub.state import token_path
from moorage_spawners.launch.kubernetes_settings import KubernetesSettings
from moorage_spawners.launch.namespaces import PULL_SECRET

POLL_S = {"local": 5, "kubernetes": 30}  # in a cluster each look is a request to the API server


def configure_spawner(c: Config, settings: HubSettings) -> None:
    c.JupyterHub.allow_named_servers = True
    c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}  # the progress page at once
    c.Spawner.poll_interval = settings.poll_s or POLL_S[settings.platform]
    c.Spawner.start_timeout = settings.start_timeout_s
    c.Spawner.http_timeout = 30
    c.ProjectSpawner.service_url = settings.service_url
    c.ProjectSpawner.address = settings.public_url
    c.ProjectSpawner.token_file = str(token_path(settings.state, "hub-to-service"))
    c.ProjectSpawner.default_cpu = settings.notebook_cpu
    c.ProjectSpawner.default_memory = settings.notebook_memory_bytes
    c.ProjectSpawner.stop_grace_s = settings.stop_grace_s
    c.ProjectSpawner.session_check_s = settings.session_check_s
    if settings.platform == "local":
        _as_processes(c, settings)
    elif settings.kubernetes is None:
        raise BadSettings(
            "platform is 'kubernetes', but the part `kubernetes` is missing: install with the chart, which writes it."
        )
    else:
        _as_pods(c, settings.kubernetes)


def _as_processes(c: Config, settings: HubSettings) -> None:
    from moorage_spawners.local import ProjectLocalSpawner  # each platform brings in what it needs alone

    c.JupyterHub.spawner_class = ProjectLocalSpawner
    c.ProjectLocalSpawner.state_folder = str(settings.state)
    c.ProjectLocalSpawner.server_python = settings.server_python


def _as_pods(c: Config, cluster: KubernetesSettings) -> None:
    from moorage_spawners.kube import ProjectKubeSpawner

    release = cluster.release_settings()
    c.JupyterHub.spawner_class = ProjectKubeSpawner
    c.Spawner.environment = {name: str(value) for name, value in cluster.pods.env.items()}
    c.KubeSpawner.port = release.notebook_port
    c.KubeSpawner.uid = cluster.pods.uid
    c.KubeSpawner.fs_gid = cluster.pods.fs_gid
    c.ProjectKubeSpawner.pods = cluster.pod_settings((PULL_SECRET,) if cluster.registry.pull_secret else ())
    c.ProjectKubeSpawner.home = cluster.homes.mount_path
    c.ProjectKubeSpawner.timing = cluster.watch.timing()
