"""What a notebook server is started with: its program, its environment, and Jupyter's settings and kernel.

Two environments meet here and are never mixed: the server's own, which runs JupyterLab and ignores everything of the
user's (`python -I`), and the project's, in which kernels run and terminals open.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from moorage.notebook import settings
from moorage.notebook.settings import Notebook
from moorage.wire import NotebookAdmission

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class Addresses:
    """Where workloads find the service, and what a browser uses."""

    api: str
    public: str


def argv(python: str) -> tuple[str, ...]:
    """-I: no user site, no PYTHON* variables, no working folder on the path. The rest comes by the environment."""
    return (python, "-I", "-m", "jupyterhub.singleuser")


def notebook_of(admission: NotebookAdmission, session_check_s: float = 60.0) -> Notebook:
    """What Jupyter's settings depend on; the environment must be on this machine."""
    return Notebook(
        project=admission.project, home=admission.home, environment=admission.environment_path,
        python=settings.python_of(Path(admission.environment_path)), session_check_s=session_check_s,
    )  # fmt: skip


def overlay_packages(admission: NotebookAdmission) -> str:
    return notebook_of(admission).overlay_packages


def environment(
    hub: Mapping[str, str], admission: NotebookAdmission, user: str, addresses: Addresses, jupyter: Path, runtime: Path
) -> dict[str, str]:
    """The server's whole environment, which kernels and terminals inherit. Ours wins over the user's secrets.

    `runtime`: a folder of the user's that is not in their home, where the server keeps what it can't do without.
    """
    project = admission.environment_path
    return {
        **admission.environment_variables,
        **hub,
        "HOME": admission.home,
        "USER": user,
        "LOGNAME": user,
        "SHELL": settings.shell(),
        "LANG": "C.UTF-8",
        "PATH": f"{project}/bin:{SYSTEM_PATH}",
        "VIRTUAL_ENV": project,
        "CUDA_VISIBLE_DEVICES": ",".join(admission.gpu_devices),
        "JUPYTER_PATH": str(jupyter / "share"),
        "JUPYTER_CONFIG_PATH": str(jupyter / "etc"),
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "JUPYTERHUB_ROOT_DIR": os.path.join(admission.home, admission.project),
        "JUPYTERHUB_DEFAULT_URL": "/lab",
        "MOORAGE_API_URL": addresses.api,
        "MOORAGE_PUBLIC_URL": addresses.public,
        "MOORAGE_TOKEN": admission.token,
        "MOORAGE_PROJECT": admission.project,
        "MOORAGE_WORKLOAD": admission.workload_id,
        "MOORAGE_GENERATION": str(admission.generation),
        "MOORAGE_USER": user,
    }


def jupyter_folder(state: Path, admission: NotebookAdmission, session_check_s: float) -> Path:
    """Jupyter's settings and the project's kernel, for this environment of this project; written once, readable by all.

    `session_check_s`: so often the server asks whether sessions have ended, before it shows a page to one, and while it has something open.
    """
    folder = state / "jupyter" / f"{admission.project}-{admission.environment[:24]}-{settings.VERSION}"
    for path, text in settings.files(notebook_of(admission, session_check_s), folder).items():
        _write(folder / path, text)
    return folder


def _write(path: Path, text: str) -> None:
    if path.exists() and path.read_text() == text:
        return
    parents = [parent for parent in path.parents if not parent.exists()]
    for parent in reversed(parents):
        parent.mkdir(exist_ok=True)
        parent.chmod(0o755)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.chmod(0o644)
    temporary.replace(path)
