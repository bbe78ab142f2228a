"""Whom downloads trust: the certificate authorities of this machine, where it keeps a list, as its own programs do.

uv and Node bring a list of their own and leave the machine's aside; on a network with an authority of its own they
then reach no package index, although the machine's pip does.
"""

import os
from collections.abc import MutableMapping
from pathlib import Path

BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian and its kin
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora and its kin
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # Alpine
)


def trust_the_machine(environment: MutableMapping[str, str] = os.environ, bundles: tuple[str, ...] = BUNDLES) -> None:
    """Sets what uv, npm and pip read, for this process and all that it starts. What is set already stays."""
    bundle = environment.get("SSL_CERT_FILE") or next((path for path in bundles if Path(path).is_file()), None)
    if bundle is None:
        return
    environment.setdefault("UV_SYSTEM_CERTS", "true")
    environment.setdefault("NODE_EXTRA_CA_CERTS", bundle)
    environment.setdefault("PIP_CERT", bundle)
