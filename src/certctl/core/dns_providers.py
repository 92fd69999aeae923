"""The DNS providers that dns-lexicon speaks to, as data: what each wants to be told, and which of it is secret.

As its parsers declare it (3.25); a test holds the table against the installed package. Left out are `auto` (it guesses
by asking around), and `localzone` and `oci` (they read and write files of this host).
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping

from msgspec import Struct

# an option a word: `*` is a secret, `?` true or false, `#` a number; `+package` has to be installed beside dns-lexicon
_TABLE = """
aliyun: auth_key_id auth_secret*
arvancloud: auth_token*
aurora: auth_api_key* auth_secret_key*
azure: auth_client_id auth_client_secret* auth_tenant_id auth_subscription_id resource_group
cloudflare: auth_username auth_token* zone_id
cloudns: auth_id auth_subid auth_subuser auth_password* weight port
cloudxns: auth_username auth_token*
conoha: auth_region auth_token* auth_username auth_password* auth_tenant_id
constellix: auth_username auth_token*
ddns: auth_token* ddns_server
desec: auth_token* auth_username auth_password*
devnomads: auth_token*
digitalocean: auth_token*
dinahosting: auth_username auth_password*
directadmin: auth_password* auth_username endpoint
dnsimple: auth_token* auth_username auth_password* auth_2fa*
dnsmadeeasy: auth_username auth_token*
dnspark: auth_username auth_token*
dnspod: auth_username auth_token*
dnsservices: auth_username auth_password*
dreamhost: auth_token*
duckdns: auth_token*
dynu: auth_token*
easydns: auth_username auth_token*
easyname: auth_username auth_password*
euserv: auth_username auth_password*
exoscale: auth_key* auth_secret*
flexibleengine: auth_token* zone_id
gandi: auth_token* api_protocol
gehirn: auth_token* auth_secret*
glesys: auth_username auth_token*
godaddy: auth_key* auth_secret*
googleclouddns: auth_service_account_info* private_zone?
gransy+zeep: auth_username auth_password*
gratisdns: auth_username auth_password*
henet: auth_username auth_password*
hetzner: auth_token*
hostingde: auth_token*
hover: auth_username auth_password* auth_totp_secret*
httpnet: auth_token*
infoblox: auth_user auth_psw* ib_view ib_host
infomaniak: auth_token*
internetbs: auth_key* auth_password*
inwx: auth_username auth_password*
ionos: api_key*
joker: auth_token*
linode: auth_token*
linode4: auth_token*
luadns: auth_username auth_token*
memset: auth_token*
misaka: auth_token*
mythicbeasts: auth_username auth_password* auth_token*
namecheap: auth_token* auth_username auth_client_ip auth_sandbox?
namecom: auth_username auth_token*
namesilo: auth_token*
netcup: auth_customer_id auth_api_key* auth_api_password*
nfsn: auth_username auth_token*
njalla: auth_token*
nsone: auth_token*
onapp: auth_username auth_token* auth_server
online: auth_token*
ovh: auth_entrypoint auth_application_key* auth_application_secret* auth_consumer_key*
plesk: auth_username auth_password* plesk_server
pointhq: auth_username auth_token*
porkbun: auth_key* auth_secret*
powerdns: auth_token* pdns_server pdns_server_id pdns_disable_notify
qcloud+tencentcloud-sdk-python: secret_id* secret_key*
rackspace: auth_account auth_username auth_api_key* auth_token* sleep_time#
rage4: auth_username auth_token*
rcodezero: auth_token*
regfish: auth_api_key*
route53+boto3: auth_access_key* auth_access_secret* private_zone zone_id auth_username auth_token*
safedns: auth_token*
sakuracloud: auth_token* auth_secret*
scaleway: auth_secret_key*
softlayer+softlayer: auth_username auth_api_key*
timeweb: auth_token*
transip: auth_username auth_api_key* auth_key_is_global?
ultradns: auth_token* auth_username auth_password*
valuedomain: auth_token*
vercel: auth_token*
vultr: auth_token*
wedos: auth_username auth_pass*
yandex: auth_token*
yandexcloud: auth_token* dns_zone_id cloud_id folder_id
zeit: auth_token*
zilore: auth_key*
zonomi: auth_token* auth_entrypoint
"""
_MOST_CHARACTERS = 20_000


class ProviderOption(Struct, frozen=True):
    """One thing to be told. `kind` is text, flag or number."""

    name: str
    kind: str
    is_secret: bool


class DnsProvider(Struct, frozen=True):
    """One provider; `package` is what has to be installed beside dns-lexicon, empty for nothing."""

    name: str
    package: str
    options: tuple[ProviderOption, ...]

    @property
    def secrets(self) -> tuple[str, ...]:
        """The names of what is secret."""
        return tuple(option.name for option in self.options if option.is_secret)

    @property
    def plain(self) -> tuple[str, ...]:
        """The names of what is not; each provider takes a TTL for its records."""
        return (*(option.name for option in self.options if not option.is_secret), "ttl")


def _option(word: str) -> ProviderOption:
    name = word.rstrip("*?#")
    marks = word[len(name) :]
    return ProviderOption(name, "flag" if "?" in marks else "number" if "#" in marks else "text", "*" in marks)


def _read(line: str) -> DnsProvider:
    named, _, words = line.partition(":")
    name, _, package = named.partition("+")
    return DnsProvider(name, package, tuple(_option(word) for word in words.split()))


PROVIDERS: Mapping[str, DnsProvider] = {made.name: made for made in map(_read, _TABLE.strip().splitlines())}


def provider_of(name: str) -> DnsProvider:
    """The provider of that name. Raises ValueError naming the nearest."""
    found = PROVIDERS.get(name)
    if found is None:
        near = difflib.get_close_matches(name[:100], PROVIDERS, n=1)
        raise ValueError(f"dns_provider {name[:100]!r} is not known" + (f"; did you mean {near[0]}?" if near else ""))
    return found


def options_of(provider: DnsProvider, plain: Mapping[str, str], secrets: str) -> dict[str, str | bool | float]:
    """What the provider is told: `plain` options, and `secrets` as `name=value` lines or one JSON object of texts.

    Raises ValueError that shows no value: for an option that is not the provider's, or stands on the wrong side.
    """
    told = read_secrets(secrets)
    for where, given, right, other in (
        ("dns_provider_options", plain, provider.plain, provider.secrets),
        ("dns_provider_secrets", told, provider.secrets, provider.plain),
    ):
        for name in given:
            if name in right:
                continue
            if name in other:
                side = "dns_provider_secrets" if where == "dns_provider_options" else "dns_provider_options"
                raise ValueError(f"{where}: {name} belongs in {side}")
            known = ", ".join(right) or "none"
            raise ValueError(f"{where}: {provider.name} has no {name[:100]!r}; it takes {known}")
    kinds = {option.name: option.kind for option in provider.options} | {"ttl": "number"}
    return {name: _value(name, kinds[name], text) for name, text in {**plain, **told}.items()}


def _value(name: str, kind: str, text: str) -> str | bool | float:
    if kind == "flag":
        if text not in {"true", "false"}:
            raise ValueError(f"{name} is true or false")
        return text == "true"
    if kind == "number":
        if not text.isascii() or not text.isdigit() or len(text) > 6:
            raise ValueError(f"{name} is a whole number")
        return int(text)
    return text


def read_secrets(text: str) -> dict[str, str]:
    """`name=value` lines, or one JSON object of texts (values may have lines). Raises ValueError without a value."""
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"dns_provider_secrets has more than {_MOST_CHARACTERS} characters")
    if text.lstrip().startswith("{"):
        return _read_object(text)
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise ValueError(f"dns_provider_secrets: line {number} is not name=value")
        found[name.strip()] = value.strip()
    return found


def _read_object(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("dns_provider_secrets begins like a JSON object and is none") from None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError("dns_provider_secrets: every value of the JSON object is a text")
    return found
