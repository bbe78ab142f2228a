"""Of a repository's images those go that nobody refers to, and did not in the round before."""


from hypothesis import given
from hypothesis import strategies as st

from moorage_images.oci.collect import Listed, collect, decide, listing
from moorage_images.oci.image import digest_of
from moorage_images.oci.reference import Reference
from moorage_images.oci.registry import Registry
from tests.images.base_images import push_base
from tests.images.registries import RunningRegistry

HERE = Reference("r.test", "environments")
DIGESTS = [digest_of(bytes([number])) for number in range(6)]
LISTED = [Listed(reference=HERE.at(digest), tags=(f"t{number}",)) for number, digest in enumerate(DIGESTS)]
SOME = st.sets(st.sampled_from(range(6)))


@given(listed=SOME, by_digest=SOME, by_tag=SOME, before=SOME)
def test_what_is_in_use_stays_and_what_is_not_goes_in_the_second_round(
    listed: set[int], by_digest: set[int], by_tag: set[int], before: set[int]
) -> None:
    in_use = [HERE.at(DIGESTS[one]) for one in by_digest]
    in_use += [Reference(HERE.host, HERE.repository, f"t{one}") for one in by_tag]
    decided = decide(HERE, in_use, [LISTED[one] for one in sorted(listed)], {DIGESTS[one] for one in before})
    unused = listed - by_digest - by_tag
    assert {one.digest for one in decided.gone} == {DIGESTS[one] for one in unused & before}
    assert decided.unused == {DIGESTS[one] for one in unused - before}
    assert {one.version for one in decided.lost} == {
        *(DIGESTS[one] for one in by_digest - listed),
        *(f"t{one}" for one in by_tag - listed),
    }


def test_references_to_another_repository_keep_nothing() -> None:
    elsewhere = Reference("r.test", "others", digest=DIGESTS[0])
    decided = decide(HERE, [elsewhere], LISTED[:1], {DIGESTS[0]})
    assert decided.gone == (HERE.at(DIGESTS[0]),)
    assert decided.lost == ()


def test_rounds_take_away_what_is_unused_and_nothing_else(registry: Registry, server: RunningRegistry) -> None:
    client, host = registry, server.host
    where = Reference(host, "environments")
    used, old, other = (
        push_base(client, Reference(host, where.repository, tag), text=tag.encode()) for tag in ("used", "old", "other")
    )
    push_base(client, Reference(host, where.repository, "again"), text=b"old")  # the same image under two tags
    assert {one.tags for one in listing(client, where)} == {("used",), ("again", "old"), ("other",)}

    first = collect(client, where, lambda: [used], ())
    assert first.gone == ()
    assert first.unused == {old.digest, other.digest}

    pushed_meanwhile: list[Reference] = []

    def in_use() -> list[Reference]:
        pushed_meanwhile.append(push_base(client, Reference(host, where.repository, "fresh"), text=b"fresh"))
        return [used, Reference(host, where.repository, "other")]

    second = collect(client, where, in_use, first.unused)
    assert second.gone == (old,)
    assert client.tags(where) == ["fresh", "other", "used"]
    assert client.digest(pushed_meanwhile[0]) is not None
    assert client.image(used, "amd64").reference == used

    assert collect(client, where, lambda: [used, old], ()).lost == (old,)
