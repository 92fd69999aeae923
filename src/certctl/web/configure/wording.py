"""What the forms say: a label and a hint for each field that has a better word than its own name."""

from __future__ import annotations

from certctl.web.configure.fields import Label
from certctl.web.words import gettext as _


def labels() -> dict[str, Label]:
    """By the field's name in the API; in the page's language."""
    return {
        **_common(),
        **_of_profiles(),
        **_of_renewal(),
        **_of_servers(),
        **_of_files(),
        **_of_rules(),
        **_of_groups(),
        **_of_channels(),
        **_of_acme(),
        **_of_challenges(),
        **_of_times(),
        **_of_waves(),
    }


def _common() -> dict[str, Label]:
    return {
        "name": (_("Name"), _("As it reads in lists")),
        "description": (_("Description"), ""),
        "enabled": (_("In use"), _("Off keeps it and lets nothing new use it")),
        "email": (_("E-mail"), _("Such as tls-team@example.com")),
        "team_id": (_("Team"), ""),
        "agent_id": (_("Agent"), _("The agent on the host does the work")),
        "severity": (_("Severity"), _("Error and Critical refuse a request; Warning is only recorded")),
        "ca_common_name": (
            _("Name of the issuing CA"),
            _("Stands in each certificate as its issuer; for the next one"),
        ),
        "validity_days": (_("Life of certificates"), _("Days, where neither profile nor request says otherwise")),
        "crl_shards": (_("Shards of the CRL"), _("Certificates from now on name one of them; never fewer than before")),
        "crl_deltas": (_("Delta CRLs"), _("Beside each CRL one of what has changed since")),
    }


def _of_profiles() -> dict[str, Label]:
    return {
        "allowed_key_algorithms": (
            _("Keys"),
            _("What a key may be, and its least size in bits; none: any the house allows"),
        ),
        "max_ttl_seconds": (_("Longest life"), _("Seconds; 0: no limit of its own. 90 days are 7776000")),
        "allowed_ekus": (_("Purposes"), _("One a line, such as serverAuth or clientAuth")),
        "required_san_patterns": (
            _("Names must match"),
            _("One pattern a line, such as *.example.com; none: any name"),
        ),
        "spiffe_uri_pattern": (_("SPIFFE pattern"), _("Such as spiffe://example.com/team/*")),
        "allow_short_lived": (
            _("Lives under an hour"),
            _("Without CRL and OCSP: they end before a revocation would show"),
        ),
        "must_staple": (_("Must staple"), _("Browsers then want an OCSP answer from the server itself")),
        "required_csr_attributes": (_("CSR must hold"), _("Names of attributes, one a line")),
        "acme_auth_mode": (_("ACME"), _("How names are proven when they are ordered through ACME; empty: not offered")),
        "acme_issuer_id": (_("Issuer for ACME"), _("Who signs what is ordered through ACME")),
        "acme_profiles": (
            _("Also offered through ACME"),
            _("Ids of other profiles that its clients may order, one a line"),
        ),
        "requires_approval": (
            _("Two people must agree"),
            _("A second person decides each request and each edit of this"),
        ),
        "approvals_required": (_("How many must approve"), _("Beside the one who asks")),
        "approvers": (_("Who may approve"), _("One a line; none: whoever holds the permission")),
    }


def _of_renewal() -> dict[str, Label]:
    return {
        "renewal_window_days": (_("Renew so many days before the end"), _("Or leave it empty and give a fraction")),
        "renewal_window_fraction": (
            _("Or: renew when this part of life is left"),
            _("Such as 0.33 for the last third; good for lives of any length"),
        ),
        "auto_renew": (_("Renew by itself"), ""),
        "max_retries": (_("Tries"), _("How often a renewal is tried before it stops and says so")),
        "retry_interval_seconds": (_("Time between tries"), _("Seconds, 60 to 86400")),
        "alert_thresholds_days": (_("Tell somebody at"), _("Days before the end, such as 30, 14, 7, 0")),
        "alert_channels": (_("Channels by tier"), _("One tier a line, such as critical: Email, Slack")),
        "alert_severity_map": (_("Tiers by day"), _("One a line, such as 7: critical")),
        "certificate_profile_id": (_("Profile"), _("Only for certificates of this profile; none: of any")),
    }


def _of_servers() -> dict[str, Label]:
    return {
        "endpoint": (_("Where it is served"), _("Host and port that is looked at for proof, such as 127.0.0.1:443")),
        "sni": (_("Ask for"), _("Server name in the probe; empty: the certificate's first name")),
        "starttls": (_("STARTTLS"), _("The protocol to speak before TLS")),
        "probe_timeout": (_("Look for"), _("How long the new certificate may take to be seen, such as 10s")),
        "reload_command": (_("Command to reload"), _("Not taken from here: name an action of the host's allow-file")),
        "validate_command": (_("Command to check"), _("Not taken from here: name an action of the host's allow-file")),
        "test": (_("Command to test"), _("Not taken from here: name an action of the host's allow-file")),
        "reload_action": (_("To reload"), _("Name of an action in the host's allow-file; empty: none")),
        "validate_action": (_("To check the configuration"), _("Name of an action in the host's allow-file")),
        "test_action": (
            _("To check the result"),
            _("Name of an action in the host's allow-file; left out if not there"),
        ),
        "runtime_socket": (_("Runtime socket"), _("HAProxy's stats socket (level admin); empty: reload instead")),
        "mode": (_("Mode"), ""),
    }


def _of_files() -> dict[str, Label]:
    mode, owner, group = _("Octal, such as 0644"), _("A user of the host"), _("A group of the host")
    paths = {
        "cert_path": (_("Certificate file"), _("Such as /etc/nginx/tls/shop.crt")),
        "key_path": (_("Key file"), _("Such as /etc/nginx/tls/shop.key; the key is made on the host and stays there")),
        "chain_path": (_("Chain file"), _("Empty: the chain stands in the certificate file")),
        "pem_path": (_("One file for all"), _("Key, certificate and chain, such as /etc/haproxy/certs/shop.pem")),
        "cert_dir": (_("Folder"), _("Instead of the two paths")),
        "cert_file": (_("Name of the certificate file"), ""),
        "key_file": (_("Name of the key file"), ""),
    }
    for role, word in (("cert", _("Certificate file")), ("chain", _("Chain file")), ("key", _("Key file"))):
        paths[f"{role}_file_mode"] = (_("{file}: mode").format(file=word), mode)
        paths[f"{role}_file_owner"] = (_("{file}: owner").format(file=word), owner)
        paths[f"{role}_file_group"] = (_("{file}: group").format(file=word), group)
    word = _("One file for all")
    paths["pem_file_mode"] = (_("{file}: mode").format(file=word), _("Octal, such as 0600"))
    paths["pem_file_owner"] = (_("{file}: owner").format(file=word), owner)
    paths["pem_file_group"] = (_("{file}: group").format(file=word), group)
    return paths


def _of_rules() -> dict[str, Label]:
    return {
        "allowed_issuer_ids": (_("Issuers that may be asked"), ""),
        "allowed_domains": (_("Names must match one of"), _("One pattern a line, such as *.example.com")),
        "required_keys": (_("Must be said"), _("owner, team, environment or the key of a tag, one a line")),
        "allowed": (_("Environments"), _("One a line, such as production")),
        "lead_time_days": (_("Renewed so many days before the end"), ""),
        "max_days": (_("Longest life in days"), _("Such as 90")),
    }


def _of_groups() -> dict[str, Label]:
    return {
        "match_os": (_("System"), _("Such as linux; * stands for any run of characters")),
        "match_architecture": (_("Architecture"), _("Such as x86_64 or aarch64")),
        "match_ip_cidr": (_("Network"), _("Such as 10.1.0.0/16 or 2001:db8::/32")),
        "match_version": (_("Agent version"), _("Such as 2.1.* or >=2.1, <3")),
    }


def _of_channels() -> dict[str, Label]:
    return {
        "min_severity": (_("Takes"), _("Where a renewal policy names channels by tier, that counts instead")),
        "host": (_("Mail server"), _("Such as smtp.example.com")),
        "port": (_("Port"), _("587 for STARTTLS, 465 for TLS from the first byte")),
        "tls": (_("Protection"), _("User and password are only sent where there is some")),
        "username": (_("User"), ""),
        "password": (_("Password"), ""),
        "from_address": (_("From"), _("Such as certctl@example.com")),
        "recipients": (_("Always to"), _("One address a line")),
        "to_owner": (_("To the owner as well"), _("The owner of a certificate, where that has an address")),
        "url": (_("Address"), _("Such as https://hooks.example.com/certctl")),
        "secret": (_("Key of the signature"), _("Signs each message, so that nobody else can send one")),
        "bearer_token": (_("Bearer token"), _("Goes into Authorization; to https:// alone")),
        "ca_pem": (_("Trusted roots"), _("PEM; in place of the system's own")),
        "webhook_url": (_("Webhook"), _("The address that the service gave; it is the credential")),
        "channel": (_("Channel"), _("Where the service lets one choose; empty: the webhook's own")),
        "routing_key": (_("Routing key"), _("Integration key of an Events API v2 service")),
        "api_key": (_("API key"), _("Of an API integration")),
        "source": (_("Source"), _("What stands there as where it comes from")),
        "priority": (_("Priority of a warning"), _("P1 to P5; what is critical is P1, what is informational P5")),
    }


def _of_challenges() -> dict[str, Label]:
    return {
        "challenge_by": (_("Who answers"), _("This server, or the agent on the host that holds the key")),
        "challenge_agent_id": (_("Agent that answers"), _("An agent's id; empty: the one that holds the key")),
        "challenge_port": (_("Port of the answer"), _("Opened by the agent itself; 0: 80, or 443 for tls-alpn-01")),
        "challenge_webroot": (
            _("Folder of the web server"),
            _("Where a web server that holds port 80 finds the answer"),
        ),
        "dns_present_script": (
            _("Program that shows a record"),
            _("On this server's host, where the DNS takes no updates"),
        ),
        "dns_cleanup_script": (_("Program that takes it away"), ""),
        "dns_script_environment": (_("What the programs are told"), _("Variables, one a line; they may hold secrets")),
        "precheck": (_("Look before the CA is asked"), _("At the names' CAA records and addresses")),
    }


def _of_times() -> dict[str, Label]:
    return {
        "renewal_windows": (_("Renew only within"), _("Days of the week and times of day; none: at any time")),
        "freezes": (_("Not renewed within"), _("Times in which nothing is renewed, but for what would end")),
        "days": (_("Days"), _("Such as mon-fri")),
        "start": (_("From"), _("Such as 22:00")),
        "end": (_("Until"), _("Such as 04:00")),
        "starts_at": (_("Begins"), _("Such as 2026-12-20T00:00:00Z")),
        "ends_at": (_("Ends"), _("Such as 2027-01-06T00:00:00Z")),
        "algorithm": (_("Algorithm"), ""),
        "min_size": (_("Least size"), _("Bits")),
    }


def _of_waves() -> dict[str, Label]:
    return {
        "wave_size": (_("So many at a time"), _("Empty: all of them, one after the other")),
        "wave_pause_seconds": (_("Rest between two waves"), _("Seconds; as long as a deployment takes, at least")),
        "max_failures": (
            _("Halt when more than so many have failed"),
            _("With waves their jobs and deployments count too; empty: it goes on whatever fails"),
        ),
    }


def _of_acme() -> dict[str, Label]:
    return {
        "directory_url": (_("Directory"), _("Such as https://acme-v02.api.letsencrypt.org/directory")),
        "staging_directory_url": (
            _("For trials"),
            _("The CA's directory for dry runs; empty: the known one of a public CA"),
        ),
        "terms_of_service_agreed": (_("Its terms of service are agreed to"), _("Without it no account is made")),
        "eab_kid": (_("Key id of an external account"), _("Where the CA wants one (EAB)")),
        "eab_hmac": (_("Key of an external account"), _("As the CA gave it, in base64url")),
        "profile": (_("Profile at the CA"), _("One of those that its directory names; empty: the CA's own choice")),
        "preferred_chain": (_("Preferred chain"), _("Common name of a root; empty: the CA's first")),
        "ari_enabled": (_("Ask when to renew"), _("Renewal information of the CA (RFC 9773)")),
        "ca_certificates_pem": (_("Trusted roots"), _("PEM; in place of the system's own, for the CA's own TLS")),
        "challenge_type": (
            _("Proof of names"),
            _("http-01: on port 80; tls-alpn-01: on port 443, by an agent; dns-01: by a record"),
        ),
        "dns_server": (_("DNS server"), _("The primary that takes updates, such as 192.0.2.53:53")),
        "dns_zone": (_("Zone"), _("Empty: found by asking")),
        "tsig_name": (_("Name of the TSIG key"), ""),
        "tsig_secret": (_("TSIG key"), _("In base64")),
        "tsig_algorithm": (_("Algorithm of the TSIG key"), ""),
        "dns_provider": (_("DNS provider"), _("Its API puts the record; docs/reference/dns-providers.md")),
        "dns_provider_options": (_("What the provider is told"), _("name=value, one a line")),
        "dns_provider_secrets": (_("Its secrets"), _("name=value, one a line; kept encrypted")),
        "dns_resolver": (_("Resolver"), _("Follows CNAMEs; empty: this host's own")),
        "propagation_servers": (_("Wait for"), _("One name server a line; none: all of the zone's own")),
        "propagation_seconds": (_("Wait at most"), _("Seconds, 10 to 86400")),
    }
