"""The sections about TLS: towards clients and towards containers (docs/tls.md)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from gateway.settings.sections import Section

VERSIONS = ("1.2", "1.3")
_BROKEN = ("1.0", "1.1", "1", "TLSv1", "TLSv1.0", "TLSv1.1", "SSLv3")


def _version(value: object) -> object:
    """``1.2`` is a number to whoever reads YAML."""
    text = str(value) if isinstance(value, float | int) else value
    if text in _BROKEN:
        raise ValueError("expected 1.2 or 1.3: what came before is broken (RFC 8996)")
    if text not in VERSIONS:
        raise ValueError("expected 1.2 or 1.3")
    return text


Version = Annotated[
    Literal["1.2", "1.3"],
    BeforeValidator(_version),
    WithJsonSchema({"enum": ["1.2", "1.3", 1.2, 1.3]}),
]


class CertificateFiles(Section):
    """A certificate and its private key."""

    certificate: str = Field(description="Path of the certificate chain, PEM, the server's first.")
    key: str = Field(description="Path of the private key, PEM, not encrypted.")


class ListenTls(Section):
    """TLS towards clients. Files are read again when the configuration is."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"certificate": "cert.pem", "key": "key.pem"}]}
    )

    certificate: str | None = Field(None, description="Path of the certificate chain, PEM.")
    key: str | None = Field(None, description="Path of its private key, PEM, not encrypted.")
    certificates: list[CertificateFiles] = Field(
        default_factory=list,
        description="Several, chosen by the host name that a client asks for; the first if none.",
    )
    min_version: Version = "1.2"
    max_version: Version = "1.2"
    client_ca: str | None = Field(
        None, description="Path of authorities, PEM, whose client certificates are accepted."
    )
    client_certificate: Literal["optional", "required"] = "optional"

    @model_validator(mode="after")
    def _one_form(self) -> ListenTls:
        short = (self.certificate is not None, self.key is not None)
        if self.certificates and any(short):
            raise ValueError("say certificate and key, or certificates, not both")
        if not self.certificates and not all(short):
            raise ValueError("say certificate and key, or certificates with some of each")
        if self.min_version > self.max_version:
            raise ValueError(
                f"min_version {self.min_version} is above max_version {self.max_version}"
            )
        if self.client_certificate == "required" and self.client_ca is None:
            raise ValueError("client_certificate: required needs a client_ca")
        return self

    @property
    def files(self) -> list[tuple[tuple[str | int, ...], CertificateFiles]]:
        """Each certificate, and the keys below this section that lead to it."""
        if self.certificate is not None and self.key is not None:
            return [((), CertificateFiles(certificate=self.certificate, key=self.key))]
        return [(("certificates", n), files) for n, files in enumerate(self.certificates)]


class BackendTls(Section):
    """TLS towards the containers of a deployment, where their URLs begin with https://."""

    ca: str | None = Field(
        None, description="Path of authorities, PEM; those that the system trusts if absent."
    )
    certificate: str | None = Field(None, description="Path of the gateway's own certificate, PEM.")
    key: str | None = Field(None, description="Path of its private key, PEM, not encrypted.")
    server_name: str | None = Field(
        None, description="Name that the containers' certificates are for; their host if absent."
    )
    verify: bool = Field(True, description="false: anybody may pass for a container.")

    @model_validator(mode="after")
    def _pairs(self) -> BackendTls:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        if not self.verify and self.ca is not None:
            raise ValueError("verify: false makes no use of a ca")
        return self
