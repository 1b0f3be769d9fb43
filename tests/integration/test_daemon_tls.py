"""The daemon behind TLS of its own."""

from __future__ import annotations

import signal
import ssl
from pathlib import Path

from tests.certificates import Signed, sign
from tests.integration.daemon import Daemon


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
