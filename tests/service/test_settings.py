"""Where the settings come from, and what is said when they can't be used."""

import os
import stat
from pathlib import Path

import pytest

from moorage_service.context import make_context
from moorage_service.settings import Settings, SettingsError, load


def write(tmp_path: Path, text: str) -> Path:
    (tmp_path / "settings.yaml").write_text(text)
    return tmp_path


def test_the_file_wins_over_what_is_built_in_and_the_environment_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "hub: {x: 1}\nservice:\n  port: 9001\n  max_workers: 3\n  inventory: {cpu: 4}\n")
    monkeypatch.setenv("MOORAGE_SERVICE_STATE", str(tmp_path))
    monkeypatch.setenv("MOORAGE_SERVICE_PORT", "9002")
    monkeypatch.setenv("MOORAGE_SERVICE_INVENTORY__MEMORY", "1024")
    found = load(port=9000, stop_grace_s=3)
    assert (found.port, found.max_workers, found.stop_grace_s) == (9002, 3, 3)
    assert found.inventory.memory == 1024


def test_no_file_is_no_error(tmp_path: Path) -> None:
    assert load(state=tmp_path).port == 8090


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("service: [1]", "must be a mapping"),
        ("- a", "must be a mapping"),
        ("service: {port: [}", "can't be read as YAML"),
        ("\x00", "can't be read as YAML"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(state=write(tmp_path, text))
    assert words in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_an_unknown_or_bad_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="prot"):
        load(state=write(tmp_path, "service: {prot: 1}"))
    with pytest.raises(SettingsError, match="max_workers"):
        load(state=write(tmp_path, "service: {max_workers: many}"))


def test_a_variable_that_is_no_json_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORAGE_SERVICE_PYTHON_VERSIONS", "{bad")
    with pytest.raises(SettingsError, match="python_versions"):
        load(state=tmp_path)


def test_without_a_state_folder_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOORAGE_SERVICE_STATE", raising=False)
    with pytest.raises(SettingsError, match="MOORAGE_SERVICE_STATE"):
        load()


def test_the_state_folder_keeps_to_the_service_what_is_the_services(tmp_path: Path, settings: Settings) -> None:
    before = os.umask(0o077)  # as the service runs
    try:
        context = make_context(settings)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in settings.state.iterdir()}
    own = {"secrets", "database", "logs", "workloads", "snapshots", "outputs"}
    assert {name for name, mode in modes.items() if mode == 0o700} == own
    assert {name for name, mode in modes.items() if mode == 0o755} == {"environments", "homes", "scratch"}
    assert stat.S_IMODE(settings.state.stat().st_mode) == 0o755
    for path in [*(settings.state / "secrets").iterdir(), *(settings.state / "database").iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    context.hub.close()
    context.database.close()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("reconcile_s: 0", "reconcile_s"),
        ("stop_grace_s: -1", "stop_grace_s"),
        ("session_s: .nan", "session_s"),
        ("uid_first: 0", "uid_first"),
        ("builder_uid_first: 61005", "builder_uid_first"),
    ],
)
def test_settings_that_can_not_work_are_refused(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        load(state=write(tmp_path, f"service: {{{text}}}"))
