"""Names and labels in Kubernetes: valid whatever people are called, and never the same for two of them. Pure."""

import base64
import hashlib
import re

from moorage_spawners.launch.errors import ManifestError

LONGEST = 63  # characters of a DNS label, and of a label's value
LONGEST_PREFIX = 20
LONGEST_SLUG = 28
HASH = 12  # characters of 5 bits: among 100,000 names two alike come once in 200 million installations
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", re.ASCII)
_MADE = re.compile(rf"(.*-)?h-[a-z2-7]{{{HASH}}}", re.ASCII)
_OTHER = re.compile(r"[^a-z0-9]+", re.ASCII)


def is_dns_label(text: str) -> bool:
    return _DNS_LABEL.fullmatch(text) is not None


def pod_name(workload_id: str, generation: int) -> str:
    """`<workload id>-<generation>`; two workloads never share one, for the last dash ends the id. Raises ManifestError."""
    name = f"{workload_id}-{generation}"
    if generation < 0 or not is_dns_label(workload_id) or not is_dns_label(name):
        raise ManifestError(f"{name!r:.100} is no name for a pod; give an id of lower-case letters, digits and dashes.")
    return name


def namespace_name(prefix: str, user_id: str, user_name: str) -> str:
    """`<prefix>-<slug>-<hash>`: the slug of the name is for people's eyes, the hash is the id's, so no two users share one.

    A name may change, so this is asked once, when a user's first workload starts, and the answer is kept with the user.
    Raises ManifestError for a prefix that is no DNS label of at most 20 characters.
    """
    if not is_dns_label(prefix) or len(prefix) > LONGEST_PREFIX:
        raise ManifestError(
            f"The namespace prefix {prefix!r:.80} can't be used; give 1 to {LONGEST_PREFIX} lower-case letters, digits and dashes."
        )
    slug = _slug(user_name, LONGEST_SLUG) or "user"
    return f"{prefix}-{slug}-{_hash(user_id)}"


def label_value(text: str) -> str:
    """`text` itself where it is a valid label value, else a slug and a hash of it; two texts never give one value."""
    if _VALUE.fullmatch(text) and not _MADE.fullmatch(text):
        return text
    slug = _slug(text, LONGEST - HASH - len("-h-"))
    return f"{slug}-h-{_hash(text)}" if slug else f"h-{_hash(text)}"


def _slug(text: str, longest: int) -> str:
    return _OTHER.sub("-", text.lower()).strip("-")[:longest].strip("-")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return base64.b32encode(digest).decode().lower()[:HASH]
