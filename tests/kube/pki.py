"""The node's certificates: one authority, a certificate for each part, the service accounts' key, and the kubeconfigs.

Made afresh at each start, in memory, with elliptic curves: some milliseconds each.
"""

import datetime
import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.kube.place import ADDRESS, API_PORT, API_SERVICE, NODE_NAME, Place

VALID = datetime.timedelta(days=30)
SERVING_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", NODE_NAME)
SERVING_ADDRESSES = ("127.0.0.1", ADDRESS, API_SERVICE)
# Who calls the API server, by the name of its files: common name and group.
CLIENTS = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "proxy": ("system:kube-proxy", ""),
    "kubelet": (f"system:node:{NODE_NAME}", "system:nodes"),
    "apiserver-kubelet": ("kube-apiserver-kubelet-client", "system:masters"),
}


@dataclass(frozen=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make(place: Place) -> None:
    """Writes kubeconfigs, and into `<pki>`: `ca.crt`, `<name>.{crt,key}` of all clients and of `serving`, `service-accounts.{key,pub}`."""
    place.pki.mkdir(parents=True, mode=0o700)
    place.kubeconfig.parent.mkdir(mode=0o700)
    authority = _authority(place)
    for name, (common, group) in CLIENTS.items():
        _issue(place, authority, name, _subject(common, group), ExtendedKeyUsageOID.CLIENT_AUTH)
        _write_kubeconfig(place, name)
    _issue(place, authority, "serving", _subject("kube-apiserver"), ExtendedKeyUsageOID.SERVER_AUTH, _alternatives())
    key = ec.generate_private_key(ec.SECP256R1())
    _write_key(place, "service-accounts", key)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (place.pki / "service-accounts.pub").write_bytes(public)


def _authority(place: Place) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _subject("moorage-kube")
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        _begin(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    (place.pki / "ca.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return _Authority(certificate, key)


def _issue(
    place: Place,
    authority: _Authority,
    name: str,
    subject: x509.Name,
    use: x509.ObjectIdentifier,
    alternatives: Sequence[x509.GeneralName] = (),
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _begin(subject, authority.certificate.subject, key)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = builder.add_extension(issuer, critical=False)
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    certificate = builder.sign(authority.key, hashes.SHA256())
    (place.pki / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _write_key(place, name, key)


def _begin(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _subject(common: str, group: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternatives() -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in SERVING_NAMES]
    return names + [x509.IPAddress(ipaddress.ip_address(address)) for address in SERVING_ADDRESSES]


def _write_key(place: Place, name: str, key: ec.EllipticCurvePrivateKey) -> None:
    path = place.pki / f"{name}.key"
    path.touch(mode=0o600)
    plain = serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))


def _write_kubeconfig(place: Place, name: str) -> None:
    cluster = {"server": f"https://{ADDRESS}:{API_PORT}", "certificate-authority": str(place.pki / "ca.crt")}
    user = {"client-certificate": str(place.pki / f"{name}.crt"), "client-key": str(place.pki / f"{name}.key")}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "moorage", "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "moorage", "context": {"cluster": "moorage", "user": name}}],
        "current-context": "moorage",
    }
    path = place.kubeconfig_of(name)
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=1))
