"""KubeSpawner's settings of where pods go, for hubs that have some, and nothing of what it does with them."""

from typing import Any, NoReturn

from jupyterhub.spawner import Spawner
from kubespawner import KubeSpawner
from traitlets import default

PORT = 8888


class Placement(KubeSpawner):  # type: ignore[misc]  # it carries no types
    """What counts of `c.KubeSpawner`: node_selector, tolerations, image_pull_secrets, priority_class_name, uid, fs_gid, and
    all that is JupyterHub's own. Its pods, claims, namespaces and the watches for them are not made: a pod of ours is composed
    of an allow-list, and the rights of the hub do not reach beyond the namespaces in which notebooks start.
    """

    def __init__(self, **given: Any) -> None:
        super(KubeSpawner, self).__init__(**given)  # its own reads the cluster's settings and makes names of its own

    @property
    def scheduling(self) -> dict[str, Any]:
        """The settings as `PodSettings` names them."""
        return {
            "node_labels": dict(self.node_selector or {}),
            "tolerations": tuple(self.tolerations or ()),
            "image_pull_secrets": tuple(
                each["name"] if isinstance(each, dict) else str(each) for each in self.image_pull_secrets or ()
            ),
            "priority_class": self.priority_class_name or "",
        }

    def number(self, name: str, otherwise: int) -> int:
        """The setting `uid` or `fs_gid`; a function of the spawner is asked."""
        given = getattr(self, name)
        found = given(self) if callable(given) else given
        return otherwise if found is None else int(found)

    async def _start_reflector(self, *_given: Any, **_named: Any) -> NoReturn:
        raise AssertionError(
            "nothing of KubeSpawner's is watched: its rights would have to reach over whole namespaces"
        )

    def get_env(self) -> dict[str, str]:
        return dict(Spawner.get_env(self))

    def get_state(self) -> dict[str, Any]:
        return dict(Spawner.get_state(self))

    def load_state(self, state: dict[str, Any]) -> None:
        Spawner.load_state(self, state)

    def clear_state(self) -> None:
        Spawner.clear_state(self)

    async def delete_forever(self) -> None:
        """Homes are the service's, and outlive a user's servers."""

    @default("port")
    def _port_default(self) -> int:
        return PORT

    @default("options_form")
    def _options_form_default(self) -> str:
        return ""

    @default("options_from_form")
    def _options_from_form_default(self) -> Any:
        return self._passthrough_options_from_form
