"""`python -m tests.kube build | up | moorage | down | left`: the node by hand, as root, from the checkout.

`up` keeps it up and says how to reach it; `moorage` does, too, with the chart installed, and leads a port of this machine to it until
Ctrl-C. `left` says what of a node is on this machine, and ends with 1 if anything is.
"""

import contextlib
import signal
import sys

from tests.kube import images, remains
from tests.kube.errors import NodeError
from tests.kube.node import Node
from tests.kube.packages import ensure_packages
from tests.kube.place import Place
from tests.kube.release import Release

PORT = 8000  # of this machine, for a browser


def main(wish: str) -> int:
    node = Node()
    match wish:
        case "build":
            _build(node)
        case "up":
            node.up()
            node.keep()
            print("\n".join(f"{seconds:6.2f} s  {step}" for step, seconds in node.took.items()))
            print(f"export KUBECONFIG={node.kubeconfig}\nalias kubectl='{node.programs.path('kubernetes')} kubectl'")
        case "moorage":
            _moorage(node)
        case "down":
            node.down()
        case "left":
            found = remains.find(Place.from_environment())
            print("\n".join(f"{kind}: {each}" for kind, some in found.items() for each in some) or "nothing")
            return int(any(found.values()))
        case _:
            print(__doc__)
            return 2
    return 0


def _moorage(node: Node) -> None:
    """What is up already stays, and the chart and images of this checkout take the place of earlier ones."""
    if not node.place.kept.exists():
        node.up()
        node.keep()
    release = Release(node, PORT)
    release.install()
    print(
        f"export KUBECONFIG={node.kubeconfig}\nMoorage runs in the namespace {release.namespace}. Log in, once: {release.link()}"
    )
    with release.forwarded(), contextlib.suppress(KeyboardInterrupt):
        print("Ctrl-C ends the way to it; `make kube-down` ends all of it.", flush=True)
        signal.pause()


def _build(node: Node) -> None:
    """All that is built once: minutes, for a machine that will run the tests."""
    ensure_packages()
    images.pause_archive(node.place, node.programs)
    images.base_layout(node.place)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
    except NodeError as error:
        sys.exit(str(error))
