"""Configuration of an ACME CA; names are the reference product's where it has them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from certctl.connectors.base.config import no_secret
from certctl.core.secret import Secret

_Text = Annotated[str, msgspec.Meta(max_length=500)]


class AcmeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One account at one CA, and how names are proven to it.

    `ca_certificates_pem` replaces the system's roots for the CA's own TLS. `dns_server` is the primary (`host:port`)
    that takes updates (RFC 2136) of `dns_zone` (empty: found), signed with the TSIG key. `propagation_servers` are
    asked before the CA is (empty: the zone's own); `dns_resolver` follows CNAMEs (empty: this host's).
    `dns_present_script` instead has programs of this server's host put the record, with `dns_script_environment`.
    """

    directory_url: Annotated[str, msgspec.Meta(pattern="^https://", max_length=500)]
    email: _Text = ""
    terms_of_service_agreed: bool = False
    eab_kid: _Text = ""
    eab_hmac: Secret = msgspec.field(default_factory=no_secret)
    profile: Annotated[str, msgspec.Meta(max_length=64)] = ""
    preferred_chain: _Text = ""
    ari_enabled: bool = True
    ca_certificates_pem: Annotated[str, msgspec.Meta(max_length=200_000)] = ""
    challenge_type: Literal["http-01", "dns-01"] = "http-01"
    dns_server: _Text = ""
    dns_zone: _Text = ""
    tsig_name: _Text = ""
    tsig_secret: Secret = msgspec.field(default_factory=no_secret)
    tsig_algorithm: Literal["hmac-sha256", "hmac-sha384", "hmac-sha512"] = "hmac-sha256"
    dns_present_script: _Text = ""
    dns_cleanup_script: _Text = ""
    dns_script_environment: Secret = msgspec.field(default_factory=no_secret)
    dns_resolver: _Text = ""
    propagation_servers: Annotated[list[str], msgspec.Meta(max_length=20)] = []
    propagation_seconds: Annotated[int, msgspec.Meta(ge=10, le=86_400)] = 600

    def __post_init__(self) -> None:
        """Refuse what can never work."""
        if bool(self.eab_kid) != bool(self.eab_hmac):
            raise ValueError("eab_kid and eab_hmac belong together")
        if self.challenge_type == "dns-01":
            self._check_dns()

    def _check_dns(self) -> None:
        if self.dns_present_script and self.dns_server:
            raise ValueError("dns_present_script and dns_server are two ways of dns-01: choose one")
        if not self.dns_present_script and not (self.dns_server and self.tsig_name and self.tsig_secret):
            raise ValueError("dns-01 needs dns_server, tsig_name and tsig_secret, or dns_present_script")
