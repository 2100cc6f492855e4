"""What tests of reverse proxies share: the site's name, a certificate that is made for it, and a client that knows the certificate."""

from __future__ import annotations

import datetime
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.conftest import Deadline

SITE = "events.example.org"
"""As it stands in the README."""
CERTIFICATE, KEY = "site.pem", "site.key"


def make_certificate(place: Path) -> None:
    """Writes a certificate for SITE, signed by its own key, into the folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SITE)])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SITE)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (place / CERTIFICATE).write_bytes(certificate.public_bytes(Encoding.PEM))
    (place / KEY).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@contextmanager
def running(
    command: Sequence[str], socket: Path, log: Path, until: Callable[..., Any], env: Mapping[str, str] | None = None
) -> Iterator[None]:
    """A proxy that runs meanwhile, from when its socket is there. log: where its errors go."""
    with log.open("ab") as output, subprocess.Popen(command, stdout=output, stderr=output, env=env) as process:
        try:
            until(lambda: socket.exists() or process.poll() is not None, "the proxy")
            assert process.poll() is None, log.read_text()
            yield
        finally:
            process.terminate()
            process.wait(30)


def client_of(place: Path, socket: Path, **options: Any) -> httpx.AsyncClient:
    """Whoever asks https://SITE on this socket, and believes its certificate alone."""
    trust = ssl.create_default_context(cafile=str(place / CERTIFICATE))
    transport = httpx.AsyncHTTPTransport(uds=str(socket), verify=trust)
    return httpx.AsyncClient(transport=transport, timeout=Deadline().seconds, **options)


@contextmanager
def over_http2(place: Path, socket: Path, *arguments: str) -> Iterator[Iterator[str]]:
    """The data of each event of https://SITE/events as curl gets it over HTTP/2; the answer is 200."""
    command = [
        "curl",
        "-sN",
        "--http2",
        "--unix-socket",
        str(socket),
        "--cacert",
        str(place / CERTIFICATE),
        "-D",
        "-",
        *arguments,
    ]
    with subprocess.Popen([*command, f"https://{SITE}/events"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert next(process.stdout).split() == ["HTTP/2", "200"]
            yield (line.removeprefix("data: ").rstrip("\n") for line in process.stdout if line.startswith("data: "))
        finally:
            process.terminate()
