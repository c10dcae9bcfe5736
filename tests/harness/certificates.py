"""A certificate for localhost and 127.0.0.1, of an authority of the test's own."""

import subprocess

from .tools import need

EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


class Certificates:
    def __init__(self, directory):
        need("openssl")
        self.directory = directory
        self.openssl("req", "-x509", *EC, "-keyout", "ca.key", "-out", "ca.pem", "-days", "30", "-subj", "/CN=Test Authority")
        self.openssl("req", *EC, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=localhost")
        (directory / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        self.openssl("x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30", "-out", "leaf.pem", "-extfile", "ext")

    def openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)

    @property
    def redis_lines(self):
        """For redis' configuration."""
        return [
            f"tls-cert-file {self.directory}/leaf.pem",
            f"tls-key-file {self.directory}/leaf.key",
            f"tls-ca-cert-file {self.directory}/ca.pem",
            "tls-auth-clients no",
        ]

    @property
    def trusted(self):
        """For wsify's environment."""
        return {"SSL_CERT_FILE": str(self.directory / "ca.pem")}
