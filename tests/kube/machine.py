"""What the node changes on the machine beside its folder: settings of the kernel, its bridge, rules of iptables, its cgroup.

Each has a function that makes it and one that takes it back, which is right after a kill -9 too, and when there is nothing.
"""

import json
import re
from pathlib import Path

from tests.kube.commands import find, run
from tests.kube.errors import NodeError
from tests.kube.journal import Journal
from tests.kube.place import ADDRESS, BRIDGE, CGROUP, COMMENT, POD_BRIDGE, PODS, POLICY_TABLE, SERVICES

CGROUPS = Path("/sys/fs/cgroup")
SETTINGS = {
    "net.ipv4.ip_forward": "1",
    "net.bridge.bridge-nf-call-iptables": "1",  # traffic between pods passes the rules too
    "fs.inotify.max_user_instances": "8192",
    "vm.overcommit_memory": "1",
    "kernel.panic": "10",
    "kernel.panic_on_oops": "1",
}
SET_BY_PARTS = ("vm.panic_on_oom", "kernel.keys.root_maxkeys", "kernel.keys.root_maxbytes")  # the kubelet sets them
TABLES = ("filter", "nat", "mangle", "raw")
FAMILIES = {"ip": "iptables", "ip6": "ip6tables"}
CHAINS = re.compile(r"KUBE-|CNI-")


def change_settings(journal: Journal) -> None:
    for name in (*SETTINGS, *SET_BY_PARTS):
        path = _setting(name)
        if path.exists():
            journal.note("setting", name=name, before=path.read_text().strip())
    for name, value in SETTINGS.items():
        if _setting(name).exists():
            _setting(name).write_text(value)


def restore_settings(journal: Journal) -> None:
    for entry in journal.entries("setting"):
        path = _setting(entry["name"])
        if path.read_text().strip() != entry["before"]:
            path.write_text(entry["before"])


def _setting(name: str) -> Path:
    return Path("/proc/sys", *name.split("."))


def make_bridge() -> None:
    """Raises NodeError where somebody else has our address."""
    taken = [
        link
        for link in json.loads(run(["ip", "-j", "address"]).stdout)
        for entry in link["addr_info"]
        if entry["local"] == ADDRESS
    ]
    if taken:
        raise NodeError(
            f"{taken[0]['ifname']} has the address {ADDRESS} already, which the node needs. Remove it there."
        )
    run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    run(["ip", "address", "add", f"{ADDRESS}/32", "dev", BRIDGE])
    run(["ip", "link", "set", BRIDGE, "up"])


def links() -> list[str]:
    """Our bridges, and the pods' ends that are in one of them."""
    present = {link["ifname"]: link.get("master") for link in json.loads(run(["ip", "-j", "link"]).stdout)}
    return [name for name, master in present.items() if master == POD_BRIDGE or name in {BRIDGE, POD_BRIDGE}]


def remove_links() -> None:
    for name in links():
        run(["ip", "link", "delete", name], check=False)  # a pod's end goes with the pod


def smallest_mtu() -> int:
    """Of the machine's ways out: pods that send larger packets than those would see some connections hang."""
    routes = json.loads(run(["ip", "-j", "route", "show", "default"]).stdout)
    sizes = [int(Path(f"/sys/class/net/{route['dev']}/mtu").read_text()) for route in routes if "dev" in route]
    return min([1500, *sizes])


def add_rules(journal: Journal) -> None:
    """Services without a pod behind them are refused at once: some networks answer for addresses that nobody has.

    kube-proxy's own rules translate what is a service before these look.
    """
    already = chains()
    if any("KUBE-SERVICES" in chain for chain in already):
        raise NodeError(
            "This machine has chains of kube-proxy: it is a node of a cluster already. Use another machine."
        )
    journal.note("chains", before=already, tables=_nft_tables())
    note = ["-m", "comment", "--comment", COMMENT]
    for chain in ("OUTPUT", "FORWARD"):
        run(["iptables", "-w", "-A", chain, "-d", SERVICES, *note, "-j", "REJECT"])
    for direction in ("-s", "-d"):  # where the machine forwards nothing unless told
        run(["iptables", "-w", "-A", "FORWARD", direction, PODS, *note, "-j", "ACCEPT"])


def chains() -> list[str]:
    """Chains as kube-proxy, kubelet and the CNI plugins name them, as "family table chain"."""
    return [
        f"{family} {table} {line[1:].split()[0]}"
        for family in FAMILIES
        for table in TABLES
        for line in _saved(family, table)
        if line.startswith(":") and CHAINS.match(line[1:])
    ]


def rules() -> list[str]:
    """Our own rules in the machine's chains, and the policies' table."""
    own = [line for family in FAMILIES for table in TABLES for line in _saved(family, table) if COMMENT in line]
    return own + [table for table in _nft_tables() if table == f"ip {POLICY_TABLE}"]


def policies_are_enforced() -> bool:
    return f"ip {POLICY_TABLE}" in _nft_tables()


def remove_rules(journal: Journal) -> None:
    """Ours, and every chain that came with the node; tables that came with it and are empty go too."""
    before = next(journal.entries("chains"), {"before": chains(), "tables": _nft_tables()})
    ours = set(chains()) - set(before["before"])
    for family in FAMILIES:
        for table in TABLES:
            mine = [chain.split()[2] for chain in ours if chain.startswith(f"{family} {table} ")]
            _remove_from_table(family, table, mine)
    if find("nft") is None:
        return
    run(["nft", "delete", "table", "ip", POLICY_TABLE], check=False)
    for name in _nft_tables():
        family, table = name.split()
        if name not in before["tables"] and family in FAMILIES and table in TABLES and _is_empty(name):
            run(["nft", "delete", "table", family, table])


def _remove_from_table(family: str, table: str, mine: list[str]) -> None:
    jumps = re.compile(rf" -[jg] ({'|'.join(map(re.escape, mine))})( |$)") if mine else None
    rules = [line for line in _saved(family, table) if line.startswith("-A ") and line.split()[1] not in mine]
    ends = [f"-D{line[2:]}" for line in rules if COMMENT in line or (jumps and jumps.search(line))]
    if not ends and not mine:
        return
    script = [f"*{table}", *ends, *(f"-F {chain}" for chain in mine), *(f"-X {chain}" for chain in mine), "COMMIT", ""]
    run([f"{FAMILIES[family]}-restore", "-w", "--noflush"], stdin="\n".join(script))


def _saved(family: str, table: str) -> list[str]:
    """Asks about tables that are there only: to ask about another one makes it."""
    program = find(f"{FAMILIES[family]}-save")
    if program is None or (_uses_nft(program) and f"{family} {table}" not in _nft_tables()):
        return []
    return run([program, "-t", table], check=False).stdout.splitlines()


def _uses_nft(program: str) -> bool:
    return "nft" in Path(program).resolve().name or "nft" in run([program, "--version"], check=False).stdout


def _nft_tables() -> list[str]:
    if find("nft") is None:
        return []
    return [line.removeprefix("table ") for line in run(["nft", "list", "tables"], check=False).stdout.splitlines()]


def _is_empty(table: str) -> bool:
    listed = json.loads(run(["nft", "-j", "list", "table", *table.split()]).stdout)["nftables"]
    return not any("rule" in entry for entry in listed)


def make_cgroup() -> None:
    """One in each hierarchy: pods are below them, and nothing else of this machine is."""
    for hierarchy in _hierarchies():
        own = hierarchy / CGROUP
        own.mkdir(exist_ok=True)
        for name in (
            "cpuset.cpus",
            "cpuset.mems",
        ):  # in the first version of cgroups a new one has none, and takes nobody
            if (own / name).exists() and not (own / name).read_text().strip() and (hierarchy / name).exists():
                (own / name).write_text((hierarchy / name).read_text())


def cgroups() -> list[Path]:
    """Ours, with those below them, the deepest first."""
    found = [folder / CGROUP for folder in _hierarchies() if (folder / CGROUP).is_dir()]
    whole = [inner for own in found for inner in (own, *own.rglob("*")) if inner.is_dir()]
    return sorted(whole, key=lambda folder: len(folder.parts), reverse=True)


def remove_cgroups() -> bool:
    """Whether none is left: the kernel takes a moment to forget a process that was in one."""
    for folder in cgroups():
        try:
            folder.rmdir()
        except OSError:
            continue
    return not cgroups()


def _hierarchies() -> list[Path]:
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [
        folder
        for folder in sorted(CGROUPS.iterdir())
        if folder.is_dir() and (folder / "cgroup.procs").exists() and not folder.is_symlink()
    ]
