"""Configuration of an ACME CA; names are the reference product's where it has them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from certctl.connectors.base.config import no_secret
from certctl.core.dns_providers import PROVIDERS, options_of, provider_of
from certctl.core.secret import Secret

_Text = Annotated[str, msgspec.Meta(max_length=500)]
_Provider = Annotated[str, msgspec.Meta(max_length=40, extra_json_schema={"enum": ["", *PROVIDERS]})]


class AcmeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One account at one CA, and how names are proven to it.

    `staging_directory_url` is the CA's directory for trials (empty: the known one of a public CA).
    `ca_certificates_pem` replaces the system's roots for the CA's own TLS. `challenge_by` an agent is the one that
    holds the key, or `challenge_agent_id`: it writes into `challenge_webroot`, or opens `challenge_port` itself (0: 80,
    or 443 for tls-alpn-01). `dns_server` is the primary (`host:port`) that takes updates (RFC 2136) of `dns_zone`
    (empty: found), signed with the TSIG key; `dns_present_script` instead has programs of this server's host put the
    record, with `dns_script_environment`; `dns_provider` has a provider's API do it, by what
    core/dns_providers says that it takes. `propagation_servers` are asked before the CA is (empty: the zone's own);
    `dns_resolver` follows CNAMEs (empty: this host's). `precheck`: CAA records and addresses are looked at before a CA
    that names itself for CAA is asked.
    """

    directory_url: Annotated[str, msgspec.Meta(pattern="^https://", max_length=500)]
    staging_directory_url: Annotated[str, msgspec.Meta(pattern="^(https://.*)?$", max_length=500)] = ""
    email: _Text = ""
    terms_of_service_agreed: bool = False
    eab_kid: _Text = ""
    eab_hmac: Secret = msgspec.field(default_factory=no_secret)
    profile: Annotated[str, msgspec.Meta(max_length=64)] = ""
    preferred_chain: _Text = ""
    ari_enabled: bool = True
    ca_certificates_pem: Annotated[str, msgspec.Meta(max_length=200_000)] = ""
    challenge_type: Literal["http-01", "dns-01", "tls-alpn-01"] = "http-01"
    challenge_by: Literal["server", "agent"] = "server"
    challenge_agent_id: Annotated[str, msgspec.Meta(max_length=140)] = ""
    challenge_webroot: _Text = ""
    challenge_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    dns_server: _Text = ""
    dns_zone: _Text = ""
    tsig_name: _Text = ""
    tsig_secret: Secret = msgspec.field(default_factory=no_secret)
    tsig_algorithm: Literal["hmac-sha256", "hmac-sha384", "hmac-sha512"] = "hmac-sha256"
    dns_present_script: _Text = ""
    dns_cleanup_script: _Text = ""
    dns_script_environment: Secret = msgspec.field(default_factory=no_secret)
    dns_provider: _Provider = ""
    dns_provider_options: Annotated[dict[str, _Text], msgspec.Meta(max_length=20)] = {}
    dns_provider_secrets: Secret = msgspec.field(default_factory=no_secret)
    dns_resolver: _Text = ""
    precheck: bool = True
    propagation_servers: Annotated[list[str], msgspec.Meta(max_length=20)] = []
    propagation_seconds: Annotated[int, msgspec.Meta(ge=10, le=86_400)] = 600

    def __post_init__(self) -> None:
        """Refuse what can never work."""
        if self.staging_directory_url == self.directory_url:
            raise ValueError("staging_directory_url is the directory that issues: what is signed there is trusted")
        if bool(self.eab_kid) != bool(self.eab_hmac):
            raise ValueError("eab_kid and eab_hmac belong together")
        if self.challenge_type == "dns-01":
            self._check_dns()
        self._check_place()

    def _check_place(self) -> None:
        by_agent = self.challenge_by == "agent"
        if by_agent and self.challenge_type == "dns-01":
            raise ValueError("challenge_by agent goes with http-01 and tls-alpn-01; dns-01 is the server's")
        if self.challenge_type == "tls-alpn-01" and not by_agent:
            raise ValueError("tls-alpn-01 is answered by an agent on its host: set challenge_by to agent")
        if not by_agent and (self.challenge_webroot or self.challenge_port or self.challenge_agent_id):
            raise ValueError("challenge_webroot, challenge_port and challenge_agent_id go with challenge_by agent")
        if self.challenge_webroot and (self.challenge_type != "http-01" or self.challenge_port):
            raise ValueError("challenge_webroot goes with http-01, and without challenge_port")

    def _check_dns(self) -> None:
        ways = [name for name in ("dns_server", "dns_present_script", "dns_provider") if getattr(self, name)]
        if len(ways) > 1:
            raise ValueError(f"{' and '.join(ways)} are {len(ways)} ways of dns-01: choose one")
        if self.dns_provider:
            options_of(provider_of(self.dns_provider), self.dns_provider_options, self.dns_provider_secrets.reveal())
        elif not self.dns_present_script and not (self.dns_server and self.tsig_name and self.tsig_secret):
            raise ValueError(
                "dns-01 needs dns_server, tsig_name and tsig_secret, or dns_provider, or dns_present_script"
            )
