"""The cluster's certificates, signed by an authority that is created with the cluster."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME: Final = datetime.timedelta(days=365)
# A certificate must be valid even if the clock was set back a little.
SKEW: Final = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    """The cluster's certificate authority and everything it signed, in one directory."""

    folder: Path

    @property
    def pair(self) -> Pair:
        """The authority's own certificate and key."""
        return self._named("ca")

    @property
    def service_accounts(self) -> Pair:
        """The keys that sign and verify ServiceAccount tokens: a public key, not a certificate."""
        return Pair(self.folder / "service-accounts.pub", self.folder / "service-accounts.key")

    def establish(self) -> None:
        """Create the authority and the key for ServiceAccounts, unless they exist."""
        if self.pair.certificate.exists():
            return
        key = _write_key(self.service_accounts.key)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.service_accounts.certificate.write_bytes(public)
        self._issue_authority()

    def client(self, user: str, groups: Sequence[str] = ()) -> Pair:
        """Return a certificate that authenticates a client as that user in those groups."""
        groups_of = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        subject = x509.Name([*groups_of, x509.NameAttribute(NameOID.COMMON_NAME, user)])
        pair = self._named(f"client-{user.replace(':', '-').replace('/', '-')}")
        return self._issue(pair, subject, ExtendedKeyUsageOID.CLIENT_AUTH)

    def server(self, name: str, addresses: Sequence[str | IPv4Address]) -> Pair:
        """Return a certificate for a server with these names and addresses."""
        alternatives = [
            x509.IPAddress(address) if isinstance(address, IPv4Address) else x509.DNSName(address)
            for address in addresses
        ]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = ExtendedKeyUsageOID.SERVER_AUTH
        return self._issue(self._named(name), subject, usage, alternatives)

    def _named(self, name: str) -> Pair:
        return Pair(self.folder / f"{name}.crt", self.folder / f"{name}.key")

    def _issue_authority(self) -> None:
        key = _write_key(self.pair.key)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "initpipeline-test-cluster")])
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        builder = (
            _builder(name, name, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        )
        certificate = builder.sign(key, hashes.SHA256())
        self.pair.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))

    def _issue(
        self,
        pair: Pair,
        subject: x509.Name,
        usage: x509.ObjectIdentifier,
        alternatives: Sequence[x509.GeneralName] = (),
    ) -> Pair:
        if pair.certificate.exists():  # running processes may have read it already
            return pair
        signer = load_pem_private_key(self.pair.key.read_bytes(), None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        authority = x509.load_pem_x509_certificate(self.pair.certificate.read_bytes())
        builder = (
            _builder(subject, authority.subject, _write_key(pair.key))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False
            )
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), False)
        certificate = builder.sign(signer, hashes.SHA256())
        pair.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        return pair


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + LIFETIME)
    )


def _write_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Create a key and write it. Creating an RSA key would take longer than starting etcd."""
    key = ec.generate_private_key(ec.SECP256R1())
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    return key
