"""The explicit table of connectors: kind -> where it lives, loaded on first use: an unused connector costs nothing.

Kinds are matched without regard to case; the spelling in the table is the reference product's and the one shown. Must
never search folders or entry points: what can run is what stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from msgspec import Struct

from certctl.connectors.base.config import config_schema, decode_config, secret_fields
from certctl.core.errors import Unsupported

if TYPE_CHECKING:
    from certctl.connectors.base.issuer import Issuer, Precheck
    from certctl.connectors.base.notifier import Notifier
    from certctl.connectors.base.solver import Solver
    from certctl.connectors.base.target import Target
    from certctl.connectors.dial import DialPolicy
    from certctl.connectors.host.allow import AllowFile


class Entry(Struct, frozen=True):
    """Where one connector lives: its shown kind, its module, its class and the class of its configuration."""

    kind: str
    module: str
    connector: str
    config: str
    # the keyword arguments of its class, out of what the composition root has to give
    needs: tuple[str, ...] = ()


TARGETS: tuple[Entry, ...] = (
    Entry("NGINX", "certctl.connectors.targets.nginx", "NginxTarget", "NginxConfig"),
    Entry("Apache", "certctl.connectors.targets.apache", "ApacheTarget", "ApacheConfig"),
    Entry("HAProxy", "certctl.connectors.targets.haproxy", "HaproxyTarget", "HaproxyConfig"),
    Entry("Postfix", "certctl.connectors.targets.postfix", "PostfixTarget", "PostfixConfig"),
    Entry("Dovecot", "certctl.connectors.targets.dovecot", "DovecotTarget", "DovecotConfig"),
    Entry("Caddy", "certctl.connectors.targets.caddy", "CaddyTarget", "CaddyConfig"),
    Entry("Files", "certctl.connectors.targets.files", "FilesTarget", "FilesConfig"),
)

_LOCAL_NEEDS = ("config", "cas", "root_of", "signer", "addresses")

ISSUERS: tuple[Entry, ...] = (
    Entry("local", "certctl.connectors.issuers.local", "LocalIssuer", "LocalConfig", _LOCAL_NEEDS),
    # The reference product's name of the same built-in CA.
    Entry("GenericCA", "certctl.connectors.issuers.local", "LocalIssuer", "LocalConfig", _LOCAL_NEEDS),
    Entry(
        "ACME",
        "certctl.connectors.issuers.acme",
        "AcmeIssuer",
        "AcmeConfig",
        ("config", "accounts", "solver", "precheck", "dial_policy", "clients"),
    ),
)

NOTIFIERS: tuple[Entry, ...] = (
    Entry("Email", "certctl.connectors.notifiers.email", "EmailNotifier", "EmailConfig"),
    Entry("Webhook", "certctl.connectors.notifiers.webhook", "WebhookNotifier", "WebhookConfig"),
    Entry("Slack", "certctl.connectors.notifiers.slack", "SlackNotifier", "SlackConfig"),
    Entry("Teams", "certctl.connectors.notifiers.teams", "TeamsNotifier", "TeamsConfig"),
    Entry("PagerDuty", "certctl.connectors.notifiers.pagerduty", "PagerDutyNotifier", "PagerDutyConfig"),
    Entry("OpsGenie", "certctl.connectors.notifiers.opsgenie", "OpsGenieNotifier", "OpsGenieConfig"),
)


def open_target(
    kind: str,
    config: Mapping[str, Any],
    *,
    allow: AllowFile,
    state_dir: Path,
    dial_policy: DialPolicy,
) -> Target:
    """The target of `kind` with its decoded `config`, acting within `allow` and keeping journals in `state_dir`.

    Raises Unsupported for a kind that is not in the table and Malformed for a configuration that cannot be read.
    """
    entry = find_entry(TARGETS, kind, "target")
    target = _attribute(entry, entry.connector)(_decode(entry, config), allow, state_dir, dial_policy)
    return cast("Target", target)


def open_issuer(kind: str, config: Mapping[str, Any], services: Mapping[str, Any]) -> Issuer:
    """The issuer of `kind`; `services` has whatever the table says that one of its kind needs, by name.

    Raises Unsupported for a kind that is not in the table and Malformed for a configuration that cannot be read.
    """
    entry = find_entry(ISSUERS, kind, "issuer")
    decoded = _decode(entry, config)  # refused now, not at the first order
    made = dict(services)
    if "solver" in entry.needs:
        made["solver"] = _open_solver(decoded, services)
    if "precheck" in entry.needs:
        made["precheck"] = _open_precheck(decoded)
    made["config"] = decoded
    return cast("Issuer", _attribute(entry, entry.connector)(**{name: made[name] for name in entry.needs}))


def _open_solver(config: Any, services: Mapping[str, Any]) -> Solver:
    """The way of proving names that an issuer's configuration chooses. Raises Misconfigured."""
    if config.challenge_by == "agent":
        base, host = import_module("certctl.connectors.base.solver"), import_module("certctl.connectors.solvers.host")
        wish = base.HostWish(
            type=config.challenge_type,
            webroot=config.challenge_webroot,
            port=config.challenge_port or (443 if config.challenge_type == "tls-alpn-01" else 80),
            agent_id=config.challenge_agent_id,
        )
        return cast("Solver", host.HostSolver(wish, services["hosts"]))
    if config.challenge_type == "http-01":
        answering = import_module("certctl.connectors.solvers.answering")
        return cast("Solver", answering.AnsweringSolver(services["answers"]))
    watching = {"watched": tuple(config.propagation_servers), "resolver": config.dns_resolver}
    if config.dns_present_script:
        script = import_module("certctl.connectors.solvers.script")
        hooks = script.Hooks(
            folder=services["scripts_folder"],
            present=config.dns_present_script,
            cleanup=config.dns_cleanup_script,
            environment=config.dns_script_environment,
            **watching,
        )
        return cast("Solver", script.ScriptSolver(hooks, services["dial_policy"]))
    if config.dns_provider:
        lexicon = import_module("certctl.connectors.solvers.lexicon")
        account = lexicon.Account(
            provider=config.dns_provider,
            options=config.dns_provider_options,
            secrets=config.dns_provider_secrets,
            zone=config.dns_zone,
            **watching,
        )
        return cast("Solver", lexicon.LexiconSolver(account, services["dial_policy"]))
    rfc2136 = import_module("certctl.connectors.solvers.rfc2136")
    zone = rfc2136.Zone(
        server=config.dns_server,
        name=config.dns_zone,
        tsig_name=config.tsig_name,
        tsig_secret=config.tsig_secret.reveal(),
        tsig_algorithm=config.tsig_algorithm,
        **watching,
    )
    return cast("Solver", rfc2136.Rfc2136Solver(zone, services["dial_policy"]))


def _open_precheck(config: Any) -> Precheck | None:
    if not config.precheck:
        return None
    return cast("Precheck", import_module("certctl.connectors.validation.precheck").DnsPrecheck(config.dns_resolver))


def issuer_secrets(kind: str) -> tuple[str, ...]:
    """The fields of an issuer kind's configuration that are sealed and never shown. Raises Unsupported."""
    entry = find_entry(ISSUERS, kind, "issuer")
    return secret_fields(_attribute(entry, entry.config))


def open_notifier(kind: str, config: Mapping[str, Any], dial_policy: DialPolicy) -> Notifier:
    """The notifier of `kind`; `config` holds its secrets too. Raises Unsupported and Malformed."""
    entry = find_entry(NOTIFIERS, kind, "channel")
    return cast("Notifier", _attribute(entry, entry.connector)(_decode(entry, config), dial_policy))


def notifier_config_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a channel kind's configuration. Raises Unsupported."""
    return _schema(find_entry(NOTIFIERS, kind, "channel"))


def notifier_secrets(kind: str) -> tuple[str, ...]:
    """The fields of a channel kind's configuration that are secrets. Raises Unsupported."""
    entry = find_entry(NOTIFIERS, kind, "channel")
    return secret_fields(_attribute(entry, entry.config))


def notifier_address(kind: str, config: Mapping[str, Any]) -> str:
    """Where a channel of this configuration leads, for people. Raises Unsupported or Malformed."""
    return str(getattr(_decode(find_entry(NOTIFIERS, kind, "channel"), config), "address"))  # noqa: B009 - each has one


def check_notifier_config(kind: str, config: Mapping[str, Any]) -> None:
    """Decode the configuration, secrets included, and drop it. Raises Unsupported or Malformed."""
    _decode(find_entry(NOTIFIERS, kind, "channel"), config)


def target_config_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a target kind's configuration. Raises Unsupported."""
    return _schema(find_entry(TARGETS, kind, "target"))


def issuer_config_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of an issuer kind's configuration. Raises Unsupported."""
    return _schema(find_entry(ISSUERS, kind, "issuer"))


def check_target_config(kind: str, config: Mapping[str, Any]) -> None:
    """Decode the configuration and drop it. Raises Unsupported or Malformed."""
    _decode(find_entry(TARGETS, kind, "target"), config)


def check_issuer_config(kind: str, config: Mapping[str, Any]) -> None:
    """Decode the configuration and drop it. Raises Unsupported or Malformed."""
    _decode(find_entry(ISSUERS, kind, "issuer"), config)


def find_entry(table: tuple[Entry, ...], kind: str, noun: str) -> Entry:
    """The table's line for `kind`, case put aside. Raises Unsupported naming what there is."""
    wanted = kind.casefold()
    for entry in table:
        if entry.kind.casefold() == wanted:
            return entry
    known = ", ".join(entry.kind for entry in table)
    raise Unsupported(f"{noun} type {kind!r} is not known to this version of certctl; known are {known}")


def _decode(entry: Entry, config: Mapping[str, Any]) -> Struct:
    kind: type[Struct] = _attribute(entry, entry.config)
    return decode_config(kind, config)


def _schema(entry: Entry) -> dict[str, Any]:
    return config_schema(_attribute(entry, entry.config))


def _attribute(entry: Entry, name: str) -> Any:
    return getattr(import_module(entry.module), name)
