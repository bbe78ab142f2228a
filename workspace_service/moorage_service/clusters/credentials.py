"""Credentials of a cluster: fresh for each, given to its own processes and its owner's workloads only."""

import datetime
import secrets
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIFETIME = datetime.timedelta(days=365)
BACKDATED = datetime.timedelta(hours=1)  # clocks of two hosts may differ


def token() -> str:
    """32 random bytes, as text."""
    return secrets.token_hex(32)


def certificates(cluster_id: str, hosts: Sequence[str], now: datetime.datetime) -> dict[str, str]:
    """A CA for this cluster alone and one certificate of it, for all roles: {"ca", "cert", "key"}, PEM.

    Dask asks for a certificate of this CA on both sides and looks at no host name, so the CA is the membership. Its key
    is thrown away at once: nobody can make another member.
    """
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = _name(f"{cluster_id} CA")
    authority = (
        _certificate(authority_name, authority_name, authority_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
    member = (
        _certificate(_name(cluster_id), authority_name, key.public_key(), now)
        .add_extension(names, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {"ca": _pem(authority), "cert": _pem(member), "key": private.decode()}


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + LIFETIME)
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
