"""Notebooks as processes of this machine: an environment in a folder, a home in a folder, secrets by the answer."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from moorage.wire import NotebookAdmission
from moorage_images import environments
from moorage_service.identity import homes, users
from moorage_service.identity.vault import Vault
from moorage_service.notebooks.platforms.arrangement import Admitted, Arrangement
from moorage_service.projects import archive, secrets
from moorage_service.settings import Settings
from moorage_service.store.tables import UserRow


@dataclass(frozen=True)
class LocalPlatform:
    settings: Settings
    vault: Vault

    def arrange(self, session: Session, admitted: Admitted) -> Arrangement:
        workload, user, project = admitted.workload, admitted.user, admitted.project
        environment = workload.environment or ""
        files = archive.archive_of(self.settings, project)
        values = {} if admitted.runs else secrets.values(session, self.vault, user_id=user.id, project_id=project.id)
        answer = NotebookAdmission(
            workload_id=workload.id, generation=workload.generation, token=admitted.token, project=project.slug,
            environment=environment, environment_path=str(environments.path_of(self.settings.environments, environment)),
            project_files=None if files is None else str(files), home=str(users.home_of(self.settings, user)),
            uid=user.uid, gid=users.gid_of(user), gpu_devices=admitted.gpus, runs=admitted.runs, environment_variables=values,
        )  # fmt: skip
        return Arrangement(admission=answer)

    def prepare(self, arrangement: Arrangement, user: UserRow) -> None:  # noqa: ARG002 - a folder is all there is to make
        homes.ensure_home(self.settings, user)
