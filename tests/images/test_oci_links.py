"""Where links lead is told without asking a file system, and no link is taken that leads outside."""

import errno
import os
import tempfile
from pathlib import Path, PurePosixPath

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from moorage_images.errors import UnsafeTreeError
from moorage_images.oci.links import check_links
from tests.images.trees import PYTHON

PLACES = ("a", "b", "d/a", "d/b", "d/e/a", "d/e/b")
PARTS = st.sampled_from(["a", "b", "d", "e", "..", ".", "tree", "x"])
TARGETS = st.tuples(st.sampled_from(["", "/", "TREE/"]), st.lists(PARTS, min_size=1, max_size=5).map("/".join))


def _leads_nowhere(path: Path) -> bool:
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def _inside(path: Path, tree: Path) -> bool:
    place = os.path.realpath(path)
    return place == str(tree) or place.startswith(f"{tree}/")


@settings(max_examples=200)
@given(links=st.dictionaries(st.sampled_from(PLACES), TARGETS, min_size=1, max_size=5))
def test_no_link_is_taken_that_the_kernel_would_follow_out_of_the_tree(links: dict[str, tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place).resolve() / "tree"
        (tree / "d" / "e").mkdir(parents=True)
        said = {"bin/python": str(PYTHON)}
        for path, (start, target) in links.items():
            said[path] = start.replace("TREE", str(tree)) + target
            (tree / path).symlink_to(said[path])
        assume(not any(_leads_nowhere(tree / path) for path in links))
        if _taken(said, tree):
            assert all(_inside(tree / path, tree) for path in links)
        else:  # on its way, perhaps, and not at its end: out and in again is refused too
            assert any(".." in said[path] or said[path].startswith("/") for path in links)


def _taken(links: dict[str, str], tree: Path) -> bool:
    try:
        check_links(links, prefix=PurePosixPath(tree), interpreter=PYTHON)
    except UnsafeTreeError:
        return False
    return True
