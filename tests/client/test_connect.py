"""What would fail is said before it fails; a kernel lets go of a cluster that has gone."""

import socket
import threading

import httpx
import pytest

from moorage import errors
from moorage.connect.lookout import Lookout
from moorage.connect.preflight import Local, choose_ray_way, dask_warning, probe_ray
from moorage.wire import Attach
from tests.waiting import eventually

ATTACH = Attach(
    engine="ray", address="h:1", client_address="ray://h:2", probe_url="http://h:3", token="t0ken",
    versions={"python": "3.11.2", "ray": "2.60.0"},
)  # fmt: skip
HERE = Local(python="3.11.2", engine="2.60.0")


def probing(reply: httpx.Response | Exception) -> str | None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer t0ken"
        assert str(request.url) == "http://h:3/api/version"
        if isinstance(reply, Exception):
            raise reply
        return reply

    return probe_ray("ray-1", ATTACH, transport=httpx.MockTransport(answer))


def test_the_probe_gives_the_clusters_version() -> None:
    assert probing(httpx.Response(200, json={"ray_version": "2.60.0"})) == "2.60.0"
    assert probing(httpx.Response(200, text="what?")) is None


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (httpx.Response(401), "asks for a token"),
        (httpx.Response(403), "refuses this token"),
        (httpx.Response(500), "HTTP 500"),
        (httpx.ConnectError("refused"), "could not be reached"),
        (httpx.ReadTimeout("slow"), "did not answer in time"),
    ],
)
def test_a_cluster_that_would_keep_ray_waiting_is_a_sentence(reply: httpx.Response | Exception, words: str) -> None:
    with pytest.raises(errors.ConnectRefused, match=words):
        probing(reply)


def test_the_same_versions_make_a_native_driver() -> None:
    assert choose_ray_way("ray-1", ATTACH, HERE, "2.60.0") == "native"


def test_another_patch_of_python_makes_a_client() -> None:
    assert choose_ray_way("ray-1", ATTACH, Local(python="3.11.9", engine="2.60.0"), None) == "client"


def test_another_ray_or_minor_python_is_refused_with_both_versions() -> None:
    with pytest.raises(errors.VersionMismatch, match=r"ray 2\.61\.0, and this kernel has ray 2\.60\.0"):
        choose_ray_way("ray-1", ATTACH, HERE, "2.61.0")
    with pytest.raises(errors.VersionMismatch, match=r"python 3\.11\.2, and this kernel has python 3\.12\.1"):
        choose_ray_way("ray-1", ATTACH, Local(python="3.12.1", engine="2.60.0"), None)


def test_dask_of_another_version_warns() -> None:
    attach = Attach(engine="dask", address="tls://h:1", versions={"python": "3.11.2", "distributed": "2026.8.0"})
    assert dask_warning("dask-1", attach, Local(python="3.11.2", engine="2026.8.0")) is None
    warning = dask_warning("dask-1", attach, Local(python="3.11.2", engine="2026.1.0"))
    assert warning is not None
    assert "distributed 2026.8.0 (here 2026.1.0)" in warning


def test_the_lookout_calls_once_when_nobody_answers_any_more() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    gone = threading.Event()
    lookout = Lookout(f"127.0.0.1:{server.getsockname()[1]}", gone.set, look_s=0.01, misses=2)
    lookout.start()
    server.settimeout(10)
    server.accept()[0].close()
    assert not gone.is_set()
    server.close()
    assert gone.wait(10)


def test_a_lookout_that_is_stopped_calls_nobody() -> None:
    called: list[int] = []
    lookout = Lookout("127.0.0.1:9", lambda: called.append(1), look_s=0.01, misses=1)
    lookout.stop()
    lookout.start()
    eventually(lambda: not lookout.alive, what="the end of the lookout")
    assert not called
