"""An image is the one that was meant: by its digest, of the registry that is named, to the letter; and no person names one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage_images.errors import BuildError, RefusedError
from moorage_images.oci.reference import parse
from moorage_service.projects.platforms.pods import pushed
from moorage_spawners.launch.errors import ManifestError
from moorage_spawners.launch.pod_parts import image
from tests.security.examples import examples

HOST = "registry.example.org"
DIGEST = "sha256:" + "0123456789abcdef" * 4
GOOD = f"{HOST}/moorage/environments@{DIGEST}"
TARGET = parse(f"{HOST}/moorage/environments:{'a' * 40}-0123456789ab")
BASE = parse(f"{HOST}/moorage/notebook@sha256:{'b' * 64}")
# Each could be taken for the good one by a check of its beginning, its end, or by eye.
LOOK_ALIKES = {
    "a host that begins like ours": GOOD.replace(HOST, f"{HOST}.evil.example"),
    "a host that ends like ours": f"evil-{GOOD}",
    "a host below ours": f"x.{GOOD}",
    "another port": GOOD.replace(HOST, f"{HOST}:5000"),
    "a user before the host": f"{HOST}@evil.example/moorage/environments@{DIGEST}",
    "a name and password before it": f"{HOST}:x@evil.example/moorage/environments@{DIGEST}",
    "a scheme": f"https://{GOOD}",
    "no scheme": f"//{GOOD}",
    "no registry": f"moorage/environments@{DIGEST}",
    "no registry and no path": f"environments@{DIGEST}",
    "upper case": GOOD.upper(),
    "an upper-case host": GOOD.replace(HOST, "Registry.Example.org"),
    "an upper-case digest": GOOD.replace("abcdef", "ABCDEF"),
    "a line break at the end": f"{GOOD}\n",
    "a line break before": f"\n{GOOD}",
    "blanks": f" {GOOD} ",
    "a NUL": f"{GOOD}\0",
    "more than a digest": f"{GOOD}0",
    "less than a digest": GOOD[:-1],
    "two digests": f"{GOOD}@{DIGEST}",
    "a tag alone": f"{HOST}/moorage/environments:1",
    "no version": f"{HOST}/moorage/environments",
    "another algorithm": GOOD.replace("sha256:", "sha512:"),
    "a cyrillic letter": GOOD.replace("registry", "r\u0435gistry"),
    "a dot that is none": GOOD.replace("example.org", "example\u3002org"),
    "a wide letter": GOOD.replace("moorage", "m\uff4forage"),
    "a letter of no width": GOOD.replace("moorage", "moor\u200bage"),
    "digits of another script": GOOD.replace("0123", "\u0660\u0661\u0662\u0663"),
    "a path that climbs": GOOD.replace("moorage/", "moorage/../"),
    "an empty part": GOOD.replace("moorage/", "moorage//"),
    "an escape": GOOD.replace("moorage/", "moorage%2f"),
    "another repository": GOOD.replace("environments", "environments-evil"),
    "a repository below": GOOD.replace("environments", "environments/evil"),
}
# Names of images, as good as any, of which only the registry's owner says what they are: they are another registry's or repository's.
OF_OTHERS = {
    "a host that begins like ours", "a host that ends like ours", "a host below ours", "another port", "another repository",
    "a repository below",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(LOOK_ALIKES) - OF_OTHERS))
def test_a_pod_is_made_of_an_image_by_digest_and_of_nothing_that_looks_like_one(name: str) -> None:
    with pytest.raises(ManifestError, match="digest"):
        image(LOOK_ALIKES[name])


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_what_was_built_is_where_it_was_to_go_by_digest_and_nowhere_that_looks_like_it(name: str) -> None:
    """The one program that names an image is the step of a build that pushes it, and it is not believed."""
    with pytest.raises(BuildError, match=r"builds\.image"):
        pushed({"image": LOOK_ALIKES[name], "base": str(BASE)}, TARGET, BASE)
    with pytest.raises(BuildError, match=r"builds\.image"):
        pushed({"image": GOOD, "base": LOOK_ALIKES[name]}, TARGET, BASE)
    assert str(pushed({"image": GOOD, "base": str(BASE)}, TARGET, BASE)) == GOOD


@examples(500)
@given(st.text(alphabet=st.sampled_from(f"{GOOD}:@/.-_ \n%EX\u0435"), max_size=120) | st.text(max_size=60))
def test_whatever_is_called_an_image_it_is_one_by_digest_or_refused(text: str) -> None:
    for whole in (text, f"{text}@{DIGEST}", f"{HOST}/{text}@{DIGEST}", f"{text}{GOOD}"):
        try:
            found = image(whole)
        except ManifestError:
            continue
        name = parse(found)
        assert (str(name), name.digest) == (whole, whole[-71:])
        assert name.host == whole.partition("/")[0] == name.host.lower()
        assert whole.isascii()


@examples(300)
@given(st.text(max_size=40), st.sampled_from(["", HOST, f"{HOST}:5000", "localhost:1"]))
def test_the_registry_that_is_asked_is_the_one_that_is_written(text: str, host: str) -> None:
    try:
        name = parse(f"{host}{text}")
    except RefusedError:
        return
    assert str(name) == f"{host}{text}"
    assert f"{host}{text}".startswith(f"{name.host}/")
