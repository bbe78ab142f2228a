"""In a kernel: what %pip installs is marked, and where no widget can be shown there is text."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from moorage import kernel, overlay
from moorage.environment import Surroundings
from moorage.widget import Sizing, sizing
from moorage.widget.plain import plain_text
from moorage.widget.support import why_no_widget
from tests.fakes.service_api import FakeServiceApi


class Shell:
    """As much of IPython's shell as the extension touches."""

    def __init__(self) -> None:
        self.magics: dict[str, Any] = {}
        self.display_pub = self
        self.published: list[str] = []

    def find_line_magic(self, name: str) -> Any:
        return self.magics.get(name)

    def register_magic_function(self, work: Any, *, magic_kind: str, magic_name: str) -> None:
        assert magic_kind == "line"
        self.magics[magic_name] = work

    def publish(self, data: dict[str, str]) -> None:
        self.published.append(data["text/plain"])


def put_package(folder: Path, name: str, version: str) -> None:
    info = folder / "lib" / "python3.11" / "site-packages" / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_what_pip_adds_is_marked_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORAGE_OVERLAY", str(tmp_path))
    shell = Shell()
    shell.magics["pip"] = lambda line: put_package(tmp_path, *line.split("=="))
    kernel.install(shell)
    kernel.install(shell)
    shell.magics["pip"]("humanize==4.9.0")
    assert shell.published == [overlay.note(["humanize 4.9.0"])]
    shell.magics["pip"] = kernel.marking(lambda _line: None, shell)
    shell.magics["pip"]("list")
    assert len(shell.published) == 1
    assert overlay.packages() == ["humanize 4.9.0"]


def test_without_an_overlay_nothing_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOORAGE_OVERLAY", raising=False)
    assert overlay.packages() == []


def test_outside_a_notebook_the_widget_is_text_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOORAGE_CLUSTER", raising=False)
    why = why_no_widget()
    assert why is not None
    shown = sizing("ray", client=FakeServiceApi().client())._repr_mimebundle_()
    text = shown["text/plain"]
    assert text.startswith(why)
    assert "Left: 4 cores of 6 cores" in text
    assert 'moorage.Cluster.create("ray", workers=(1, 2), cpu=1, memory="2GiB")' in text


def test_old_or_missing_widgets_are_named_with_the_remedy() -> None:
    missing = why_no_widget({"nosuchwidgets": (8, 1)})
    assert missing is not None
    assert "Add `nosuchwidgets>=8.1`" in missing
    old = why_no_widget({"ipywidgets": (99, 0)})
    assert old is not None
    assert "needs ipywidgets 99.0 or later" in old


def test_a_service_that_is_away_is_part_of_the_text() -> None:
    api = FakeServiceApi()
    api.next_replies = [httpx.ConnectError("refused")] * 3
    assert "does not answer" in plain_text(api.client(), Surroundings(), None, "No widget.")


def test_in_a_run_it_stands_for_the_runs_own_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeServiceApi()
    api.add_cluster("c9", "of-the-run", phase="ready")
    monkeypatch.setenv("MOORAGE_CLUSTER", "c9")
    shown = Sizing("ray", api.client())
    assert "This run has a cluster of its own" in shown._repr_mimebundle_()["text/plain"]
    assert shown.cluster.name == "of-the-run"
