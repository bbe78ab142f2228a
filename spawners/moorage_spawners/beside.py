"""Projects' notebooks beside what a hub starts already: one spawner class for both, for a hub has one."""

from collections.abc import Mapping
from typing import Any

from jupyterhub.spawner import Spawner

from moorage_spawners.kube import ProjectKubeSpawner


def beside(own: type[Spawner]) -> type[Spawner]:
    """For `c.JupyterHub.spawner_class`: named servers are projects' notebooks, each user's default server stays the hub's `own`.

    So does a named server that `own` started before: what it remembers of it is its own.
    """

    class ProjectsBeside(own):  # type: ignore[misc]  # jupyterhub carries no types
        """Nothing is ever one of these: whoever makes one gets a spawner of either kind."""

        theirs = own

        def __new__(cls, **given: Any) -> Any:
            server = given.get("orm_spawner")
            ours = server is not None and is_ours(server.name, server.state)
            return (ProjectKubeSpawner if ours else own)(**given)

    return ProjectsBeside


def is_ours(name: str, state: Mapping[str, Any] | None) -> bool:
    """Of a server's name, and what its spawner keeps of it in the hub's records."""
    return bool(name) and (not state or "workload_id" in state)
