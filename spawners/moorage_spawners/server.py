"""What a notebook server is started with: its program, its environment, and Jupyter's settings and kernel.

Two environments meet here and are never mixed: the server's own, which runs JupyterLab and ignores everything of the
user's (`python -I`), and the project's, in which kernels run and terminals open.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moorage.wire import NotebookAdmission

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
SETTINGS_VERSION = 5  # raise it when what `jupyter_folder` writes changes


@dataclass(frozen=True)
class Addresses:
    """Where workloads find the service, and what a browser uses."""

    api: str
    public: str


def argv(python: str) -> tuple[str, ...]:
    """-I: no user site, no PYTHON* variables, no working folder on the path. The rest comes by the environment."""
    return (python, "-I", "-m", "jupyterhub.singleuser")


def overlay(admission: NotebookAdmission) -> str:
    """Where `%pip install` puts packages: seen by kernels of this project alone, never by servers or workers."""
    return os.path.join(admission.home, ".moorage", admission.project)


def overlay_packages(admission: NotebookAdmission) -> str:
    return os.path.join(overlay(admission), "lib", f"python{_minor(admission)}", "site-packages")


def _minor(admission: NotebookAdmission) -> str:
    described = json.loads((Path(admission.environment_path) / "moorage-environment.json").read_text())
    return ".".join(str(described["python"]).split(".")[:2])


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
        "SHELL": shell(),
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


def shell() -> str:
    return "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"


def jupyter_folder(state: Path, admission: NotebookAdmission, session_check_s: float) -> Path:
    """Jupyter's settings and the project's kernel, for this environment of this project; written once, readable by all.

    `session_check_s`: so often the server asks whether sessions have ended, before it shows a page to one, and while it has something open.
    """
    folder = state / "jupyter" / f"{admission.project}-{admission.environment[:24]}-{SETTINGS_VERSION}"
    _write(folder / "share" / "kernels" / "python3" / "kernel.json", _kernel(admission))
    _write(folder / "etc" / "labconfig" / "page_config.json", _PAGE)
    _write(folder / "etc" / "labconfig" / "default_setting_overrides.json", _DEFAULTS)
    _write(folder / "etc" / "jupyter_server_config.json", _server(folder / "etc" / "bashrc", session_check_s))
    _write_text(folder / "etc" / "bashrc", _BASHRC)
    return folder


def _kernel(admission: NotebookAdmission) -> dict[str, Any]:
    place = overlay(admission).replace(admission.home, "${HOME}", 1)
    packages = overlay_packages(admission).replace(admission.home, "${HOME}", 1)
    return {
        "argv": [
            f"{admission.environment_path}/bin/python",
            "-m",
            "ipykernel_launcher",
            "-f",
            "{connection_file}",
            "--IPKernelApp.extensions=moorage",  # marks what %pip installs as not on workers
        ],
        "display_name": f"Python ({admission.project})",
        "language": "python",
        "metadata": {"debugger": True},
        # The environment is read-only and shared: what a kernel installs goes to the overlay, which only kernels see.
        "env": {"MOORAGE_OVERLAY": place, "PIP_PREFIX": place, "PYTHONPATH": packages},
    }


# The server offers the project's kernel alone, opens terminals that keep the project's PATH (a login shell resets it),
# and leaves out what costs start time or asks the network.
def _server(bashrc: Path, session_check_s: float) -> dict[str, Any]:
    terminal = [shell(), "--rcfile", str(bashrc)] if shell().endswith("bash") else [shell()]
    return {
        "ServerApp": {
            "jpserver_extensions": {"jupyter_lsp": False, "moorage.lab": True},
            "terminado_settings": {"shell_command": terminal},
        },
        "KernelSpecManager": {"ensure_native_kernel": False, "allowed_kernelspecs": ["python3"]},
        "HubOAuth": {"cache_max_age": max(1, int(session_check_s))},  # 0 would be: for ever
        "OpenSockets": {"check_s": session_check_s},
    }


# A user's uid has no entry in the machine's list of accounts, so bash's own prompt would say "I have no name!".
_BASHRC = r"""[ -r /etc/bash.bashrc ] && . /etc/bash.bashrc
PS1='\[\e[32m\]$USER\[\e[0m\]:\w\$ '
[ -r ~/.bashrc ] && . ~/.bashrc
"""

_PAGE: dict[str, Any] = {
    "disabledExtensions": {
        "@jupyterlab/apputils-extension:announcements": True,
        "@jupyterlab/lsp-extension": True,
        "@jupyterlab/extensionmanager-extension": True,
    }
}


# Defaults, which a user may change. A widget that is scrolled out of sight stays alive only if cells stay attached.
_DEFAULTS: dict[str, Any] = {
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "defer"},
    "@jupyterlab/apputils-extension:themes": {"adaptive-theme": True},
}


def _write(path: Path, content: dict[str, Any]) -> None:
    _write_text(path, json.dumps(content, indent=1))


def _write_text(path: Path, text: str) -> None:
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
