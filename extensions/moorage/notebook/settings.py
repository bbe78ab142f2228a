"""Jupyter's settings and the kernel of a project's environment, as files for the notebook server. Pure but for a look at the machine.

Two environments meet in a notebook server and are never mixed: the server's own, which runs JupyterLab and ignores everything of the
user's, and the project's, in which kernels run and terminals open.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = 6  # raise it when what `files` says changes


@dataclass(frozen=True, kw_only=True)
class Notebook:
    """What the settings depend on. `environment`: the project environment's folder; `python`: its version as in a path, such as 3.12.

    `in_pod`: it runs in a pod, where nobody else sees how it is from inside.
    `session_check_s`: so often the server asks whether sessions have ended, before it shows a page to one, and while it has something open.
    """

    project: str
    home: str
    environment: str
    python: str
    session_check_s: float
    in_pod: bool = False

    @property
    def overlay(self) -> str:
        """Where `%pip install` puts packages: seen by kernels of this project alone, never by servers or workers."""
        return os.path.join(self.home, ".moorage", self.project)

    @property
    def overlay_packages(self) -> str:
        return os.path.join(self.overlay, "lib", f"python{self.python}", "site-packages")


def python_of(environment: Path) -> str:
    """The version in the paths of an environment's Python, such as 3.12. Raises OSError, and KeyError when it is not said."""
    lines = (line.partition("=") for line in (environment / "pyvenv.cfg").read_text().splitlines())
    told = {name.strip(): value.strip() for name, _, value in lines}
    return ".".join(told["version_info"].split(".")[:2])


def shell() -> str:
    return "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"


def files(notebook: Notebook, folder: Path) -> dict[str, str]:
    """Path below `folder` -> text: `share` is for JUPYTER_PATH, `etc` for JUPYTER_CONFIG_PATH."""
    documents = {
        "share/kernels/python3/kernel.json": _kernel(notebook),
        "etc/labconfig/page_config.json": _PAGE,
        "etc/labconfig/default_setting_overrides.json": _DEFAULTS,
        "etc/jupyter_server_config.json": _server(folder / "etc" / "bashrc", notebook),
    }
    return {path: json.dumps(content, indent=1) for path, content in documents.items()} | {"etc/bashrc": _BASHRC}


def _kernel(notebook: Notebook) -> dict[str, Any]:
    place = notebook.overlay.replace(notebook.home, "${HOME}", 1)
    packages = notebook.overlay_packages.replace(notebook.home, "${HOME}", 1)
    return {
        "argv": [
            f"{notebook.environment}/bin/python",
            "-m",
            "ipykernel_launcher",
            "-f",
            "{connection_file}",
            "--IPKernelApp.extensions=moorage",  # marks what %pip installs as not on workers
        ],
        "display_name": f"Python ({notebook.project})",
        "language": "python",
        "metadata": {"debugger": True},
        # The environment is read-only and shared: what a kernel installs goes to the overlay, which only kernels see.
        "env": {"MOORAGE_OVERLAY": place, "PIP_PREFIX": place, "PYTHONPATH": packages},
    }


# The server offers the project's kernel alone, opens terminals that keep the project's PATH (a login shell resets it),
# and leaves out what costs start time or asks the network.
def _server(bashrc: Path, notebook: Notebook) -> dict[str, Any]:
    terminal = [shell(), "--rcfile", str(bashrc)] if shell().endswith("bash") else [shell()]
    return {
        "ServerApp": {
            "jpserver_extensions": {"jupyter_lsp": False, "moorage.lab": True},
            "terminado_settings": {"shell_command": terminal},
        },
        "KernelSpecManager": {"ensure_native_kernel": False, "allowed_kernelspecs": ["python3"]},
        "HubOAuth": {"cache_max_age": max(1, int(notebook.session_check_s))},  # 0 would be: for ever
        "OpenSockets": {"check_s": notebook.session_check_s},
        "Condition": {"home": notebook.home if notebook.in_pod else ""},
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
