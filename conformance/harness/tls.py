"""DICOM over TLS: an authority made by openssl, the options of peers' tools, Python's contexts."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from .processes import HOST, free_ports, run


@dataclass(frozen=True)
class Certificate:
    cert: Path
    key: Path


@dataclass(frozen=True)
class Secured:
    """What a peer needs to speak TLS: whom it believes, and what it shows."""

    authority: "Authority"
    own: Certificate

    def dcmtk(self) -> list[str]:
        return self.authority.dcmtk(self.own)

    def stores(self) -> tuple[Path, Path]:
        """The same as key stores for Java, by Java's keytool: (key, trusted certificates), PKCS #12 with the password `secret`."""
        key, trust = self.own.cert.with_suffix(".p12"), self.authority.cert.with_suffix(".trust.p12")
        if not key.exists():
            run(["openssl", "pkcs12", "-export", "-inkey", self.own.key, "-in", self.own.cert, "-name", "own", "-passout", "pass:secret", "-out", key], 60)
        if not trust.exists():
            words = ["-importcert", "-noprompt", "-alias", "authority", "-file", self.authority.cert, "-storetype", "PKCS12", "-storepass", "secret"]
            run(["keytool", *words, "-keystore", trust], 60)
        return key, trust


class Authority:
    """Signs certificates of devices, RSA with 2048 bits as most have."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.cert, self._key = directory, directory / f"{name}.pem", directory / f"{name}.key"
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3", "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.cert)

    def certificate(self, name: str, alternative: str = f"IP:{HOST}", days: str = "2") -> Certificate:
        made = Certificate(self.directory / f"{name}.pem", self.directory / f"{name}.key")
        request = self.directory / f"{name}.csr"
        extension = ["-addext", f"subjectAltName={alternative}"] if alternative else []
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", *extension, "-keyout", made.key, "-out", request)
        signed = ["-CA", self.cert, "-CAkey", self._key, "-CAcreateserial", "-copy_extensions", "copyall", "-days", days]
        self._openssl("x509", "-req", "-in", request, "-out", made.cert, *signed)
        return made

    def _openssl(self, *words: str | Path) -> None:
        run(["openssl", *words], 60)

    # -- tables of our configuration -------------------------------------------------------------------------------

    def listen(self, own: Certificate, port: int | None = None) -> dict:
        """`[dicom] tls`"""
        address = f"{HOST}:{port or free_ports()}"
        return {"listen": address, "cert": str(own.cert), "key": str(own.key), "clients": str(self.cert)}

    def call(self, own: Certificate, name: str | None = None) -> dict:
        """`tls` of a peer that we call."""
        table = {"ca": str(self.cert), "cert": str(own.cert), "key": str(own.key)}
        return table | ({"name": name} if name else {})

    # -- peers --------------------------------------------------------------------------------------------------------

    def dcmtk(self, own: Certificate) -> list[str]:
        """Options of storescu, storescp, echoscu: key and certificate, and whom it believes."""
        return ["+tls", str(own.key), str(own.cert), "+cf", str(self.cert)]

    def client(self, own: Certificate | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.cert))
        if own:
            context.load_cert_chain(own.cert, own.key)
        return context

    def server(self, own: Certificate) -> ssl.SSLContext:
        """Demands a certificate of this authority."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.cert))
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(own.cert, own.key)
        return context
