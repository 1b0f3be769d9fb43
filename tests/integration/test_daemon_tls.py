"""The daemon behind TLS of its own."""

from __future__ import annotations

import signal
import socket
import ssl
from pathlib import Path

from tests.certificates import Signed, sign
from tests.integration.daemon import PATIENCE_SECONDS, Daemon


def test_a_reload_takes_a_new_certificate_and_keeps_the_old_one_when_it_is_bad(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def write(signed: Signed) -> None:
        certificate.write_bytes(signed.certificate)
        key.write_bytes(signed.key)

    def seen(daemon: Daemon) -> bytes:
        return ssl.get_server_certificate(("127.0.0.1", daemon.port)).encode()

    first, second = sign(), sign()
    write(first)
    flags = ("-tls-cert-file", str(certificate), "-tls-key-file", str(key))
    with Daemon(tmp_path, "models: {}\n", flags=flags) as daemon:
        assert "https://" in daemon.wait_line("listening on")
        assert seen(daemon) == first.certificate
        key.write_bytes(second.key)
        daemon.process.send_signal(signal.SIGHUP)
        assert "cannot use TLS certificate" in daemon.wait_line("not reloaded|TLS certificate")
        assert seen(daemon) == first.certificate
        write(second)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_line("configuration reloaded")
        assert seen(daemon) == second.certificate


def test_a_refusal_is_read_to_its_end_and_said_goodbye(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    signed = sign()
    certificate.write_bytes(signed.certificate)
    key.write_bytes(signed.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    flags = ("-tls-cert-file", str(certificate), "-tls-key-file", str(key))
    with Daemon(tmp_path, "http: {headerTimeout: 1}\nmodels: {}\n", flags=flags) as daemon:
        for asked, status in ((b"nonsense\r\n\r\n", b"400"), (b"GET / HTTP/1.1\r\n", b"408")):
            plain = socket.create_connection(("127.0.0.1", daemon.port), PATIENCE_SECONDS)
            with context.wrap_socket(plain, suppress_ragged_eofs=False) as client:
                client.sendall(asked)
                answer = b"".join(iter(lambda: client.recv(65536), b""))
                assert answer.startswith(b"HTTP/1.1 " + status)
    assert not daemon.count("Unhandled Error")
