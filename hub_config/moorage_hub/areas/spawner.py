"""How notebooks start."""

from traitlets.config import Config

from moorage_hub.areas.roles import OF_A_NOTEBOOK
from moorage_hub.errors import BadSettings
from moorage_hub.settings import HubSettings
from moorage_hub.state import token_path
from moorage_spawners.launch.kubernetes_settings import KubernetesSettings
from moorage_spawners.launch.namespaces import PULL_SECRET

POLL_S = {"local": 5, "kubernetes": 30}  # in a cluster each look is a request to the API server


def configure_spawner(c: Config, settings: HubSettings) -> None:
    c.JupyterHub.allow_named_servers = True
    c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}  # the progress page at once
    configure_projects(c, settings)
    if settings.platform == "local":
        _as_processes(c, settings)
    elif settings.kubernetes is None:
        raise BadSettings(
            "platform is 'kubernetes', but the part `kubernetes` is missing: install with the chart, which writes it."
        )
    else:
        from moorage_spawners.kube import ProjectKubeSpawner

        c.JupyterHub.spawner_class = ProjectKubeSpawner
        configure_pods(c, settings.kubernetes)


def configure_projects(c: Config, settings: HubSettings) -> None:
    """Of projects' notebooks alone, wherever they run: a hub may have other servers as well."""
    c.ProjectSpawner.poll_interval = settings.poll_s or POLL_S[settings.platform]
    c.ProjectSpawner.start_timeout = settings.start_timeout_s
    c.ProjectSpawner.http_timeout = 30
    c.ProjectSpawner.server_token_scopes = list(OF_A_NOTEBOOK)
    c.ProjectSpawner.service_url = settings.service_url
    c.ProjectSpawner.address = settings.public_url
    c.ProjectSpawner.token_file = str(token_path(settings.state, "hub-to-service"))
    c.ProjectSpawner.default_cpu = settings.notebook_cpu
    c.ProjectSpawner.default_memory = settings.notebook_memory_bytes
    c.ProjectSpawner.stop_grace_s = settings.stop_grace_s
    c.ProjectSpawner.session_check_s = settings.session_check_s


def _as_processes(c: Config, settings: HubSettings) -> None:
    from moorage_spawners.local import ProjectLocalSpawner  # each platform brings in what it needs alone

    c.JupyterHub.spawner_class = ProjectLocalSpawner
    c.ProjectLocalSpawner.state_folder = str(settings.state)
    c.ProjectLocalSpawner.server_python = settings.server_python


def configure_pods(c: Config, cluster: KubernetesSettings) -> None:
    """What projects' notebooks are as pods."""
    c.ProjectKubeSpawner.environment = {name: str(value) for name, value in cluster.pods.env.items()}
    c.ProjectKubeSpawner.port = cluster.release_settings().notebook_port
    c.ProjectKubeSpawner.uid = cluster.pods.uid
    c.ProjectKubeSpawner.fs_gid = cluster.pods.fs_gid
    c.ProjectKubeSpawner.pods = cluster.pod_settings((PULL_SECRET,) if cluster.registry.pull_secret else ())
    c.ProjectKubeSpawner.home = cluster.homes.mount_path
    c.ProjectKubeSpawner.timing = cluster.watch.timing()
