"""Notebooks as pods: a namespace of the user's own with its quota and policies, a claim for the home, a Secret for each notebook.

The hub has no rights to make any of these, so they are there before it is answered.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from moorage.wire import NotebookAdmission, PodPlace
from moorage_service.clock import Clock
from moorage_service.errors import Conflict, Unavailable
from moorage_service.identity.vault import Vault
from moorage_service.ledger.backstop import hard_quota
from moorage_service.notebooks.platforms.arrangement import Admitted, Arrangement
from moorage_service.projects import secrets
from moorage_service.recovery import owners
from moorage_service.store.database import Database
from moorage_service.store.locks import lock
from moorage_service.store.tables import EnvironmentRow, UserRow
from moorage_spawners.launch.api_objects import Unanswered
from moorage_spawners.launch.errors import LaunchError, OtherOwnerError
from moorage_spawners.launch.kubernetes_settings import KubernetesSettings
from moorage_spawners.launch.labels import Ownership
from moorage_spawners.launch.names import namespace_name
from moorage_spawners.launch.namespaces import (
    HOME_CLAIM,
    UserNamespace,
    claim,
    contents,
    objects,
    pull_secret,
    unwanted,
)
from moorage_spawners.launch.pod_processes import PodProcesses
from moorage_spawners.launch.pods import ENVIRONMENTS, secret
from moorage_spawners.launch.types import Object

TOKEN = "MOORAGE_TOKEN"  # noqa: S105 - a variable's name


@dataclass(frozen=True)
class KubernetesPlatform:
    settings: KubernetesSettings
    pods: PodProcesses
    vault: Vault
    state: Path  # the service's own folder
    database: Database
    others_homes: dict[str, datetime]  # namespaces that an admin made, in which a home of somebody else lies: when it was met
    clock: Clock

    def arrange(self, session: Session, admitted: Admitted) -> Arrangement:
        workload, user, project = admitted.workload, admitted.user, admitted.project
        digest = workload.environment or ""
        environment = session.get(EnvironmentRow, digest)
        image = None if environment is None else environment.image
        if image is None and not admitted.runs:
            raise Conflict(
                f"The environment of project {project.slug!r} is in no registry. Build it on the project's page, then start again.",
                code="environment_missing",
            )
        values = {} if admitted.runs else secrets.values(session, self.vault, user_id=user.id, project_id=project.id)
        values = values if admitted.runs else {**values, TOKEN: admitted.token}
        place = PodPlace(
            namespace=self._namespace(session, user), image=image or "", home_claim=HOME_CLAIM, secret_name=workload.id,
            secret_variables={name: name for name in values}, owner=user.id,
        )  # fmt: skip
        answer = NotebookAdmission(
            workload_id=workload.id, generation=workload.generation, token="", project=project.slug,
            environment=digest, environment_path=f"{ENVIRONMENTS}/{digest}", project_files=None,
            home=self.settings.homes.mount_path, uid=self.settings.pods.uid, gid=self.settings.pods.fs_gid, runs=admitted.runs,
            pod=place,
        )  # fmt: skip
        return Arrangement(admission=answer, secrets=values, quota=hard_quota(session, self.settings, user))

    def _namespace(self, session: Session, user: UserRow) -> str:
        """Chosen once: a name may change, and what is in the namespace stays. One in which another's home lies is given up again."""
        if user.namespace is None and self.settings.namespaces:
            user.namespace = self._free(session)
        elif user.namespace is None:
            user.namespace = namespace_name(self.settings.namespace_prefix, user.id, user.hub_name)
        return str(user.namespace)

    def _free(self, session: Session) -> str:
        """Of those that an admin made the first that is nobody's yet: two users in one could read each other's homes.

        Where another's home was met is tried again when there is no other: an admin may have given it to its owner.
        """
        lock(session, ["namespaces"])
        free = self._nobodys(session)
        if not free:
            raise Conflict(
                f"All {len(self.settings.namespaces)} namespaces for users are taken. An admin makes another one and adds it to "
                "`rbac.namespaces` of the chart.",
                code="namespace_missing",
            )
        return min(free, key=lambda name: self.others_homes.get(name, datetime.min.replace(tzinfo=UTC)))

    def _nobodys(self, session: Session) -> list[str]:
        taken = set(session.scalars(select(UserRow.namespace).where(UserRow.namespace.is_not(None))))
        return [name for name in self.settings.namespaces if name not in taken]

    def _leave(self, user: UserRow, namespace: str) -> bool:
        """Of one in which another's home lies, unless the user's own was there before. Whether there is another one for them."""
        if not self.settings.namespaces or owners.is_at_home(self.state, user, namespace):
            return False
        self.others_homes[namespace] = self.clock()
        with self.database.begin() as session:
            lock(session, ["namespaces"])
            row = session.get_one(UserRow, user.id)
            if row.namespace == namespace:
                row.namespace = None
            session.flush()
            return any(name not in self.others_homes for name in self._nobodys(session))

    def prepare(self, arrangement: Arrangement, user: UserRow) -> None:
        answer = arrangement.admission
        assert answer.pod is not None
        space = UserNamespace(name=answer.pod.namespace, owner=user.id, quota=arrangement.quota)
        whose = Ownership(
            workload_id=answer.workload_id, generation=answer.generation, kind="notebook", role="server", owner=user.id,
            project=answer.project,
        )  # fmt: skip
        release = self.settings.release_settings()
        # Where an admin makes namespaces these and their bindings are the admin's; what closes them is ours all the same.
        admins = ("Namespace", "RoleBinding") if self.settings.namespaces else ()
        made = [each for each in objects(space, release) if each["kind"] not in admins]
        kept = [
            *contents(space, release),
            *self._pull_secret(space),
            secret(whose, space.name, answer.workload_id, arrangement.secrets),
        ]
        try:
            self.pods.prepare(space.name, made, [self._home(space)], kept, unwanted(space, release))
        except OtherOwnerError as error:
            said = f"Your namespace {space.name} can't be made ready. {error}"
            if self._leave(user, space.name):
                said = f"In the namespace {space.name} lies a home that is not yours. Start again: you get another namespace."
            raise Conflict(said, code="namespace_refused") from error
        except LaunchError as error:
            raise Conflict(
                f"Your namespace {space.name} can't be made ready. {error}", code="namespace_refused"
            ) from error
        except Unanswered as error:
            raise Unavailable(
                f"The cluster does not answer, so nothing was started. {error} Try again in a minute."
            ) from error
        self.others_homes.pop(space.name, None)
        owners.keep(self.state, user)

    def _home(self, space: UserNamespace) -> Object:
        homes = self.settings.homes
        return claim(space, capacity=homes.capacity, storage_class=homes.storage_class, access_modes=homes.access_modes)

    def _pull_secret(self, space: UserNamespace) -> list[Object]:
        file = self.settings.registry.pull_secret
        return [pull_secret(space, Path(file).read_bytes())] if file else []
