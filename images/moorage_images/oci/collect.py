"""Which images of a repository may go, by the references to them; and takes those away.

A registry does not say when an image was pushed, and one that was just pushed is in nobody's records yet. So an image goes only when
it was unused in the round before, too. The room on its disk comes back by the registry's own collection of blobs.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from moorage_images.oci.reference import Reference
from moorage_images.oci.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Listed:
    """An image of a repository, by digest, and all its tags."""

    reference: Reference
    tags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Round:
    """`gone`: what may go, or went; `unused`: digests, for the next round; `lost`: in use, and not there: to be built again."""

    gone: tuple[Reference, ...]
    unused: frozenset[str]
    lost: tuple[Reference, ...]


def listing(registry: Registry, repository: Reference) -> tuple[Listed, ...]:
    """What has a tag; an API of registries lists nothing else. Raises RegistryError."""
    tags: defaultdict[str, list[str]] = defaultdict(list)
    for tag in registry.tags(repository):
        digest = registry.digest(Reference(repository.host, repository.repository, tag))
        if digest is not None:  # removed meanwhile
            tags[digest].append(tag)
    return tuple(Listed(reference=repository.at(digest), tags=tuple(names)) for digest, names in sorted(tags.items()))


def decide(
    repository: Reference, in_use: Collection[Reference], listed: Sequence[Listed], unused_before: Collection[str]
) -> Round:
    """Pure. A reference by digest keeps that image, one by tag what has the tag; those to other repositories keep nothing here."""
    wanted = {one for one in in_use if (one.host, one.repository) == (repository.host, repository.repository)}
    digests = {one.digest for one in wanted if one.digest}
    tags = {one.version for one in wanted if not one.digest}
    unused = [one for one in listed if one.reference.digest not in digests and tags.isdisjoint(one.tags)]
    there = {one.reference.digest for one in listed} | {tag for one in listed for tag in one.tags}
    return Round(
        gone=tuple(one.reference for one in unused if one.reference.digest in unused_before),
        unused=frozenset(one.reference.digest for one in unused if one.reference.digest not in unused_before),
        lost=tuple(sorted(one for one in wanted if one.version not in there)),
    )


def collect(
    registry: Registry,
    repository: Reference,
    in_use: Callable[[], Collection[Reference]],
    unused_before: Collection[str],
) -> Round:
    """Takes away what may go. `in_use` is asked after the list is made, so that what is pushed meanwhile is in no danger.

    Nobody may begin to use an image of the round before while this runs: hold what guards the pointers to images. Raises RegistryError;
    what went by then is gone, and the rest goes in the next round.
    """
    listed = listing(registry, repository)
    decided = decide(repository, in_use(), listed, unused_before)
    for reference in decided.gone:
        registry.delete(reference)
    return decided
