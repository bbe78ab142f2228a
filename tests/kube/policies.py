"""NetworkPolicies as one table of nftables. Pure: objects of the API server in, the table's text out.

What a policy isolates gets a chain for each direction: what is allowed returns, its end drops. Connections that stand are left alone, so a
tightened policy cuts none, and traffic from the node itself is never judged: probes come from there. IPv4 only.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from tests.kube.place import POLICY_TABLE

Object = dict[str, Any]
Labels = Mapping[str, str]


@dataclass(frozen=True)
class Pod:
    namespace: str
    address: str
    labels: Labels
    ports: Mapping[tuple[str, str], int] = field(default_factory=dict)  # (name, protocol) -> number


@dataclass(frozen=True)
class Peer:
    """Where traffic of a rule comes from, or goes to: addresses as nftables writes them, less the holes, and the pods among them.

    No `within` means everybody.
    """

    within: str
    holes: tuple[str, ...] = ()
    pods: tuple[Pod, ...] = ()

    def match(self, side: str) -> str:
        """`side`: saddr or daddr."""
        inside = f"ip {side} {self.within} " if self.within else ""
        return inside + (f"ip {side} != {_set(self.holes)} " if self.holes else "")


def render(pods: Iterable[Object], namespaces: Iterable[Object], policies: Iterable[Object]) -> str:
    """The script for `nft -f`: replaces the whole table at once."""
    known = _pods(pods)
    labels = {each["metadata"]["name"]: each["metadata"].get("labels") or {} for each in namespaces}
    judges = _Judges(known, labels)
    for policy in policies:
        judges.add(policy)
    return judges.table()


class _Judges:
    def __init__(self, pods: list[Pod], namespaces: Mapping[str, Labels]) -> None:
        self._pods = pods
        self._namespaces = namespaces
        # By direction and address of the isolated pod: what is allowed. No rule at all: nothing is.
        self._allowed: dict[str, dict[str, list[str]]] = {"ingress": {}, "egress": {}}

    def add(self, policy: Object) -> None:
        namespace, spec = policy["metadata"]["namespace"], policy["spec"]
        chosen = [
            pod
            for pod in self._pods
            if pod.namespace == namespace and selects(spec.get("podSelector") or {}, pod.labels)
        ]
        kinds = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
        for direction in (kind.lower() for kind in kinds):
            for pod in chosen:
                rules = self._allowed[direction].setdefault(pod.address, [])
                for rule in spec.get(direction) or []:
                    rules += self._lines(direction, namespace, pod, rule)

    def _lines(self, direction: str, namespace: str, pod: Pod, rule: Object) -> Iterator[str]:
        side, peers = ("saddr", rule.get("from")) if direction == "ingress" else ("daddr", rule.get("to"))
        ports = rule.get("ports") or []
        for peer in self._peers(namespace, peers):
            match = peer.match(side)
            if not ports:
                yield f"{match}return"
            for port in ports:
                # A name means the number that the receiving pod gives it, and that may differ from pod to pod.
                receivers = [pod] if direction == "ingress" else list(peer.pods)
                yield from _port_lines(match, port, receivers, side if direction == "egress" else "")

    def _peers(self, namespace: str, peers: list[Object] | None) -> list[Peer]:
        """None or no peers means everybody. A peer that selects nobody allows nothing."""
        if not peers:
            return [Peer("", pods=tuple(self._pods))]
        found = [self._peer(namespace, peer) for peer in peers]
        return [peer for peer in found if peer is not None]

    def _peer(self, namespace: str, peer: Object) -> Peer | None:
        if "ipBlock" in peer:
            block = peer["ipBlock"]
            if ":" in block["cidr"]:
                return None
            inside = tuple(pod for pod in self._pods if _holds(block, pod.address))
            return Peer(block["cidr"], tuple(block.get("except") or []), inside)
        pods = tuple(
            pod
            for pod in self._pods
            if self._in_namespace(peer.get("namespaceSelector"), namespace, pod)
            and selects(peer.get("podSelector") or {}, pod.labels)
        )
        return Peer(_set(pod.address for pod in pods), pods=pods) if pods else None

    def _in_namespace(self, selector: Object | None, own: str, pod: Pod) -> bool:
        if selector is None:
            return pod.namespace == own
        return selects(selector, self._namespaces.get(pod.namespace, {}))

    def table(self) -> str:
        chains, jumps = [], []
        for direction, side in (("egress", "saddr"), ("ingress", "daddr")):
            other = "daddr" if side == "saddr" else "saddr"
            names = {
                address: f"{direction}_{address.replace('.', '_')}" for address in sorted(self._allowed[direction])
            }
            for address, name in names.items():
                lines = [f"ip {other} {address} return", *dict.fromkeys(self._allowed[direction][address]), "drop"]
                chains.append(_chain(name, lines))
            if names:
                ways = ", ".join(f"{address} : jump {name}" for address, name in names.items())
                jumps.append(f"ip {side} vmap {{ {ways} }}")
        chains.append(_chain("judge", ["ct state established,related accept", *jumps]))
        # `input` too: to be kept from what runs on the node itself, the API server and the registry, is egress as well.
        hooks = [
            _chain(f"on_{hook}", [f"type filter hook {hook} priority -5; policy accept;", "jump judge"])
            for hook in ("forward", "input")
        ]
        whole = "\n".join([*chains, *hooks])
        return f"table ip {POLICY_TABLE}\ndelete table ip {POLICY_TABLE}\ntable ip {POLICY_TABLE} {{\n{whole}\n}}\n"


def selects(selector: Object, labels: Labels) -> bool:
    """Whether a label selector chooses these labels. An empty one chooses all."""
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(name) == value for name, value in wanted.items()) and all(
        _expression_holds(each, labels) for each in selector.get("matchExpressions") or []
    )


def _expression_holds(expression: Object, labels: Labels) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or []
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case other:
            raise ValueError(f"{other!r} is no operator of a label selector")


def _pods(objects: Iterable[Object]) -> list[Pod]:
    """Those with an address of their own. One that ended has lost it: another may have it now."""
    found = []
    for each in objects:
        status, spec = each.get("status", {}), each["spec"]
        if status.get("podIP") and not spec.get("hostNetwork") and status.get("phase") not in {"Succeeded", "Failed"}:
            named = {
                (port["name"], port.get("protocol", "TCP")): port["containerPort"]
                for container in spec["containers"]
                for port in container.get("ports") or []
                if "name" in port
            }
            metadata = each["metadata"]
            found.append(Pod(metadata["namespace"], status["podIP"], metadata.get("labels") or {}, named))
    return found


def _port_lines(match: str, port: Object, receivers: Iterable[Pod], receiving_side: str) -> Iterator[str]:
    protocol, number = port.get("protocol", "TCP"), port.get("port")
    keyword = protocol.lower()
    if number is None:
        yield f"{match}meta l4proto {keyword} return"
    elif isinstance(number, int):
        last = port.get("endPort")
        yield f"{match}{keyword} dport {number}{f'-{last}' if last else ''} return"
    else:
        for pod in receivers:
            named = pod.ports.get((number, protocol))
            if named is not None:
                where = f"ip {receiving_side} {pod.address} " if receiving_side else match
                yield f"{where}{keyword} dport {named} return"


def _holds(block: Object, address: str) -> bool:
    asked = ip_address(address)
    return asked in ip_network(block["cidr"], strict=False) and not any(
        asked in ip_network(hole, strict=False) for hole in block.get("except") or []
    )


def _set(addresses: Iterable[str]) -> str:
    return "{ " + ", ".join(sorted(set(addresses))) + " }"


def _chain(name: str, lines: Iterable[str]) -> str:
    return "\n".join([f"  chain {name} {{", *(f"    {line}" for line in lines), "  }"])
