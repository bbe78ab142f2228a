"""In a cluster the proxy's pods alone are believed about whom they speak for; names are looked up by a fake of the cluster's DNS."""

import socket
import threading
from collections.abc import Collection

import pytest

from moorage_spawners.launch import peers
from moorage_spawners.launch.proxy_pods import ProxyPods, addresses_of, chosen
from tests.waiting import eventually

PROXY, KERNEL, INGRESS, BROWSER = "10.244.0.7", "10.244.0.99", "10.244.3.1", "198.51.100.4"
OWN = ("10.244.0.5", 8081)


class Names:
    """The cluster's DNS: what it answers now, and how often it was asked."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: Collection[str] = addresses
        self.broken = False
        self.asked = 0
        self.open = threading.Event()
        self.open.set()

    def __call__(self, name: str) -> Collection[str]:
        assert name == "moorage-proxy-pods.moorage"
        self.asked += 1
        self.open.wait(10)
        if self.broken:
            raise OSError("no name server answers")
        return self.addresses


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def pods(names: Names, clock: Clock | None = None, patience_s: float = 10.0) -> ProxyPods:
    return ProxyPods("moorage-proxy-pods.moorage", names, clock=clock or Clock(), patience_s=patience_s)


def told(judge: ProxyPods, caller: str, forwarded: str, trusted: Collection[str] = ()) -> str | None:
    return judge.address_of(forwarded, (caller, 40000), OWN, trusted)


@pytest.mark.parametrize(
    ("caller", "forwarded", "trusted", "counted_as"),
    [
        (PROXY, BROWSER, (), BROWSER),
        (PROXY, f"203.0.113.9, {BROWSER}", (), BROWSER),  # the first was written by whoever sent it
        (PROXY, f"203.0.113.9, {BROWSER}, {INGRESS}", (INGRESS,), BROWSER),
        (PROXY, f"203.0.113.9, {BROWSER}, {INGRESS}", ("10.244.3.0/24",), BROWSER),
        (PROXY, f"{BROWSER}, {INGRESS}", (), INGRESS),  # nobody said that this one may be believed
        (PROXY, f"{BROWSER}, {KERNEL}", ("10.244.3.0/24",), KERNEL),  # a kernel that goes through the proxy
        (PROXY, f"::ffff:{BROWSER}", (), BROWSER),
        (f"::ffff:{PROXY}", BROWSER, (), BROWSER),
        (PROXY, "", (), PROXY),
        (PROXY, " , ", (), PROXY),
        (KERNEL, "", (), KERNEL),
        (KERNEL, BROWSER, (), KERNEL),
        (KERNEL, f"{BROWSER}, {PROXY}", (PROXY, "0.0.0.0/0"), KERNEL),
        (f"::ffff:{KERNEL}", BROWSER, (), KERNEL),
    ],
)
def test_whom_a_request_is_counted_for(caller: str, forwarded: str, trusted: Collection[str], counted_as: str) -> None:
    assert told(pods(Names(PROXY)), caller, forwarded, trusted) == counted_as


def test_a_new_pod_of_the_proxy_is_known_at_once_and_the_old_one_no_longer() -> None:
    names, clock = Names(PROXY), Clock()
    judge = pods(names, clock)
    assert told(judge, PROXY, BROWSER) == BROWSER
    names.addresses = ("10.244.0.8",)
    clock.now += 1.5
    assert told(judge, "10.244.0.8", BROWSER) == BROWSER
    assert told(judge, PROXY, BROWSER) == PROXY  # whoever has its address now


def test_an_address_is_not_believed_for_long_after_its_pod_has_gone() -> None:
    names, clock = Names(PROXY), Clock()
    judge = pods(names, clock)
    assert told(judge, PROXY, BROWSER) == BROWSER
    names.addresses = ()
    clock.now += 6
    assert told(judge, PROXY, BROWSER) == PROXY


def test_who_calls_often_does_not_make_us_ask_often() -> None:
    names, clock = Names(PROXY), Clock()
    judge = pods(names, clock)
    for _ in range(50):
        assert told(judge, KERNEL, BROWSER) == KERNEL
    assert names.asked == 1
    for _ in range(50):
        told(judge, KERNEL, "")
    clock.now += 2
    told(judge, KERNEL, "")
    assert names.asked == 1, "who says nothing is known by their own address"


def test_names_that_nothing_answers_to_for_a_moment_mean_whom_they_meant_before() -> None:
    names, clock = Names(PROXY), Clock()
    judge = pods(names, clock)
    assert told(judge, PROXY, BROWSER) == BROWSER
    names.broken = True
    clock.now += 60
    assert told(judge, PROXY, BROWSER) == BROWSER
    assert told(judge, KERNEL, BROWSER) == KERNEL


def test_a_slow_name_server_holds_nobody_up() -> None:
    names, clock = Names(PROXY), Clock()
    names.open.clear()
    judge = pods(names, clock, patience_s=0.01)
    assert told(judge, PROXY, BROWSER) == PROXY
    clock.now += 60
    assert told(judge, PROXY, BROWSER) == PROXY
    assert names.asked == 1, "it has not answered yet"
    names.open.set()
    eventually(lambda: told(judge, PROXY, BROWSER) == BROWSER, what="the answer")


def test_nobody_known_is_nobody_believed() -> None:
    assert told(pods(Names()), PROXY, BROWSER) == PROXY
    assert ProxyPods("").address_of(BROWSER, (PROXY, 1), OWN, ()) == PROXY
    assert ProxyPods("").address_of(BROWSER, None, OWN, ()) is None


def test_the_systems_resolver_answers_in_addresses() -> None:
    assert "127.0.0.1" in addresses_of("localhost")
    assert addresses_of("127.0.0.1") == {"127.0.0.1"}
    assert addresses_of("") == set()


def test_a_name_that_is_nobodys_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """What getaddrinfo says of it, played: a machine without a name server says something else."""

    def refuse(code: int) -> None:
        def answer(*_: object, **__: object) -> object:
            raise socket.gaierror(code, "said")

        monkeypatch.setattr(socket, "getaddrinfo", answer)

    refuse(socket.EAI_NONAME)
    assert addresses_of("gone.moorage") == set()
    refuse(socket.EAI_AGAIN)
    with pytest.raises(OSError, match="said"):
        addresses_of("gone.moorage")


def test_one_machine_looks_at_its_sockets_as_ever() -> None:
    assert chosen("local", "") is peers.address_of
    assert chosen("kubernetes", "")("", (KERNEL, 1), OWN, ()) == KERNEL
