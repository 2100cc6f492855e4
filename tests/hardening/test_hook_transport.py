"""Mode "hook": the way to the application, and one that is written as the README has it."""

from __future__ import annotations

import datetime
import ipaddress
import re
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.hardening.application import AWAY, Application
from tests.hardening.pages import SAME
from tests.hardening.signing import Visitor, code
from tests.hardening.tokens import bearer
from tests.integration.daemon import ROOT, RunningDaemon


def test_no_proxy_comes_between() -> None:
    nowhere = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    with Application() as app, RunningDaemon(app.config(), dev=False, env=nowhere) as daemon, Visitor(daemon) as visitor:
        assert visitor.ask("/events", bearer("alice.1")).status == 200


def test_it_may_listen_on_a_unix_socket(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = Path(tmp_path_factory.mktemp("app")) / "http.sock"
    with Application(path) as app:
        config = app.config(hook_url="http://app.internal/who", hook_socket=str(path))
        with RunningDaemon(config, dev=False) as daemon, Visitor(daemon) as visitor:
            assert visitor.ask("/events", bearer("alice.1")).status == 200
            assert app.asked[-1].header("Host") == "app.internal"
            app.stop()
            assert visitor.refused("/events", bearer("alice.2")) == AWAY


def certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate that nobody but its file vouches for, and what a server does with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "application")])
    day, now = datetime.timedelta(days=1), datetime.datetime.now(datetime.UTC)
    built = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), now - day, now + day)
    alternative: x509.GeneralName = x509.DNSName(name) if name.isalpha() else x509.IPAddress(ipaddress.ip_address(name))
    built = built.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
    path, secret = folder / f"{name}.pem", folder / f"{name}.key"
    path.write_bytes(built.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, secret)
    return path, context


@pytest.mark.parametrize(
    ("name", "known", "served"), [("127.0.0.1", True, True), ("127.0.0.1", False, False), ("other", True, False)]
)
def test_by_https_only_who_can_show_that_it_is_the_application(tmp_path: Path, name: str, known: bool, served: bool) -> None:
    path, context = certificate(tmp_path, name)
    trusted = {"SSL_CERT_FILE": str(path)} if known else {}
    with (
        Application(tls=context) as app,
        RunningDaemon(app.config(), dev=False, env=trusted) as daemon,
        Visitor(daemon) as visitor,
    ):
        response = visitor.ask("/events", bearer("alice.1"))
        assert code(response) == ((200, "") if served else AWAY)
        assert app.of("alice.1") == served
        assert (httpx.get(daemon.http + "/readyz").status_code == 200) == served


SITE = """
import asyncio
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError, RequestHandler, create_signed_value

{handler}

async def main():
    sockets = bind_sockets(0, "127.0.0.1")
    HTTPServer(Application([("/who", Who)], cookie_secret="s")).add_sockets(sockets)
    cookie = create_signed_value("s", "user", "alice").decode()
    print(sockets[0].getsockname()[1], cookie, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_the_readmes_handler_is_all_that_it_needs() -> None:
    (handler,) = re.findall(r"```python\n(class Who.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    with subprocess.Popen([sys.executable, "-c", SITE.format(handler=handler)], stdout=subprocess.PIPE, text=True) as site:
        try:
            assert site.stdout is not None
            port, cookie = site.stdout.readline().split()
            config = f'[auth]\nmode = "hook"\nhook_url = "http://127.0.0.1:{port}/who"\n'
            with RunningDaemon(config, dev=False) as daemon, Visitor(daemon) as visitor:
                stream = visitor.ask("/events", ("Cookie", f"user={cookie}"), SAME)
                assert '"participant":"alice"' in stream.next()[0].data
                assert visitor.refused("/events", ("Cookie", f"user={cookie}0"), SAME) == (401, "participant_required")
        finally:
            site.terminate()
