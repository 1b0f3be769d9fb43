"""Certificates for tests: an authority of one's own, and what it has signed."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

_DAY = dt.timedelta(days=1)


@implementer(IOpenSSLServerConnectionCreator)
@dataclass(frozen=True, slots=True, repr=False)
class Signed:
    """A certificate with its key, and the authority's, as PEM."""

    key: bytes
    certificate: bytes
    authority: bytes

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: N803
        """Give a server's side of a connection: see the interface."""
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate(x509.load_pem_x509_certificate(self.certificate))
        context.use_privatekey(serialization.load_pem_private_key(self.key, None))  # type: ignore[arg-type]  # EC
        return SSL.Connection(context, None)

    def trust(self) -> Any:
        """Give what a client needs that trusts the authority."""
        return trustRootFromCertificates([Certificate.loadPEM(self.authority)])


def sign(host: str = "127.0.0.1") -> Signed:
    """Make an authority, and a certificate of it for an address or a name."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests' own authority")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a peer")])
    is_address = host.replace(".", "").isdigit()
    host_name: x509.GeneralName = x509.IPAddress(IPv4Address(host)) if is_address else x509.DNSName(host)
    authority = (
        _draft(issuer, issuer, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    certificate = (
        _draft(name, issuer, key)
        .add_extension(x509.SubjectAlternativeName([host_name]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return Signed(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        certificate.public_bytes(serialization.Encoding.PEM),
        authority.public_bytes(serialization.Encoding.PEM),
    )


def _draft(name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
    )
