"""Whom a sign-in that fails counts for, in a real cluster: its DNS, its addresses, and pods that write what they like."""

from urllib.parse import urlsplit

import httpx
import pytest

from moorage_spawners.readiness import free_port
from tests.kube.release import NAME, Release

pytestmark = pytest.mark.timeout(1200)

# Tries passwords, each time as if for another browser; prints how each was answered.
GUESS = """
import http.client, re, sys, urllib.parse
place, host, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
for number in range(times):
    headers = {"Host": host, "X-Real-Ip": f"198.51.100.{number}", "X-Forwarded-For": f"198.51.100.{number}"}
    hub = http.client.HTTPConnection(place, timeout=30)
    hub.request("GET", "/hub/login", headers=headers)
    page = hub.getresponse()
    xsrf = re.search(r'name="_xsrf" value="([^"]+)"', page.read().decode())[1]
    cookies = "; ".join(each.partition(";")[0] for each in page.headers.get_all("Set-Cookie"))
    form = urllib.parse.urlencode({"username": "ada", "password": f"guess {number}", "_xsrf": xsrf})
    sent = {**headers, "Cookie": cookies, "Content-Type": "application/x-www-form-urlencoded"}
    hub.request("POST", "/hub/login", body=form, headers=sent)
    answer = hub.getresponse()
    answer.read()
    print(answer.status)
"""
ALLOWED = 10  # failures in a minute, from one address under one name


def guess(release: Release, place: str, times: int) -> list[int]:
    """From the service's pod, which may call the hub as users' pods may."""
    said = release.kubectl(
        "exec", "-n", release.namespace, f"deploy/{NAME}-service", "-c", "service", "--",
        "python3", "-c", GUESS, place, urlsplit(release.url).netloc, str(times),
    )  # fmt: skip
    return [int(line) for line in said.split()]


def test_a_pod_that_calls_directly_chooses_no_address(release: Release) -> None:
    inside = release.namespace
    directly = guess(release, f"{NAME}-hub.{inside}:8081", ALLOWED + 1)
    assert directly == [403] * ALLOWED + [429]
    # The proxy tells the same address of it, and is believed: by the proxy's own it would be the first.
    assert guess(release, f"{NAME}-proxy-public.{inside}:80", 1) == [429]
    port = free_port()
    host = {"Host": urlsplit(release.url).netloc}
    with (
        release.forwarded(port),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=host, trust_env=False, timeout=60) as elsewhere,
    ):
        page = elsewhere.get("/hub/login")
        form = {"username": "ada", "password": "guess", "_xsrf": elsewhere.cookies.get("_xsrf", path="/hub/")}
        assert page.is_success
        assert elsewhere.post("/hub/login", data=form).status_code == 403
