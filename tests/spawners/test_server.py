"""What a notebook server is started with."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from moorage.wire import NotebookAdmission
from moorage_spawners import server

ADDRESSES = server.Addresses(api="http://127.0.0.1:1/services/moorage", public="http://127.0.0.1:2")


@pytest.fixture
def admission(tmp_path: Path) -> NotebookAdmission:
    environment = tmp_path / "environments" / "abc"
    environment.mkdir(parents=True)
    (environment / "pyvenv.cfg").write_text("home = /usr/bin\nversion_info = 3.12.4\n")
    return NotebookAdmission(
        workload_id="nb-1", generation=3, token="token", project="starter", environment="abc",
        environment_path=str(environment), project_files=None, home="/homes/us-1", uid=None, gid=None,
        gpu_devices=["2", "5"],
        environment_variables={"API_KEY": "k", "MOORAGE_TOKEN": "forged", "JUPYTERHUB_API_TOKEN": "forged", "HOME": "/"},
    )  # fmt: skip


def test_no_secret_of_a_user_replaces_what_is_ours(admission: NotebookAdmission, tmp_path: Path) -> None:
    found = server.environment({"JUPYTERHUB_API_TOKEN": "hub"}, admission, "ada", ADDRESSES, tmp_path, tmp_path)
    assert found["API_KEY"] == "k"
    assert found["MOORAGE_TOKEN"] == "token"
    assert found["JUPYTERHUB_API_TOKEN"] == "hub"
    assert found["HOME"] == "/homes/us-1"
    assert found["CUDA_VISIBLE_DEVICES"] == "2,5"
    assert (found["MOORAGE_WORKLOAD"], found["MOORAGE_GENERATION"]) == ("nb-1", "3")
    assert (found["MOORAGE_API_URL"], found["MOORAGE_PUBLIC_URL"]) == (ADDRESSES.api, ADDRESSES.public)


def test_the_server_ignores_what_lies_in_a_home() -> None:
    assert server.argv("/server/bin/python")[1] == "-I"


def test_only_kernels_see_the_overlay(admission: NotebookAdmission, tmp_path: Path) -> None:
    folder = server.jupyter_folder(tmp_path, admission, 60)
    kernel = json.loads((folder / "share" / "kernels" / "python3" / "kernel.json").read_text())
    assert kernel["display_name"] == "Python (starter)"
    assert kernel["argv"][0] == f"{admission.environment_path}/bin/python"
    assert kernel["env"]["PYTHONPATH"] == "${HOME}/.moorage/starter/lib/python3.12/site-packages"
    assert server.overlay_packages(admission) == "/homes/us-1/.moorage/starter/lib/python3.12/site-packages"
    variables = server.environment({}, admission, "ada", ADDRESSES, folder, tmp_path)
    assert not {"PYTHONPATH", "PIP_PREFIX", "MOORAGE_OVERLAY"} & set(variables)


def test_every_user_can_read_jupyters_settings_and_none_can_change_them(
    admission: NotebookAdmission, tmp_path: Path
) -> None:
    before = os.umask(0o077)
    try:
        folder = server.jupyter_folder(tmp_path / "state", admission, 60)
    finally:
        os.umask(before)
    paths = [folder, folder.parent, *folder.rglob("*")]
    assert all(path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644) for path in paths)
    assert server.jupyter_folder(tmp_path / "state", admission, 60) == folder


def test_a_terminal_keeps_the_path_and_has_a_prompt(admission: NotebookAdmission, tmp_path: Path) -> None:
    folder = server.jupyter_folder(tmp_path, admission, 60)
    settings = json.loads((folder / "etc" / "jupyter_server_config.json").read_text())
    command = settings["ServerApp"]["terminado_settings"]["shell_command"]
    environment = {
        **server.environment({}, admission, "ada", ADDRESSES, folder, tmp_path),
        "HOME": str(tmp_path),
        "TERM": "dumb",
    }
    done = subprocess.run(
        [*command, "-i"], input='echo "path=$PATH"; echo "prompt=${PS1@P}"\n', env=environment, cwd=tmp_path, text=True,
        capture_output=True, check=False, start_new_session=True,
    )  # fmt: skip
    assert f"path={admission.environment_path}/bin:" in done.stdout
    assert "ada" in done.stdout.partition("prompt=")[2]
    assert "I have no name" not in done.stdout.partition("prompt=")[2]
