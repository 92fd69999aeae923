"""Clients that know nothing of us against a real server: certbot, lego, dehydrated, uacme, certbot's `acme` library.

Names are proven by a real BIND (dynamic updates) and real web servers on loopback; what was issued is looked at with OpenSSL's eyes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import josepy
import pytest
from acme import challenges, client, errors, messages
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certctl.core.names import parse_names
from certctl.pki.csr import build_csr, csr_pem
from peers.bind import ZONE, Bind, bind
from peers.ports import free_port
from peers.replicas import Replica, replicas
from peers.responders import Web

# these clients wait seconds between their questions, on a busy machine many times
pytestmark = [pytest.mark.real, pytest.mark.xdist_group("acme-clients"), pytest.mark.timeout(600)]
HOOK = Path(__file__).resolve().parent.parent / "peers" / "acme_hook.py"
PROFILE, SHORT = "prof-web", "prof-short"
LEGO = Path(__file__).resolve().parents[2] / ".peers" / "lego"
ROOTS = (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pki/tls/certs/ca-bundle.crt"))


@dataclasses.dataclass
class World:
    """A server, names, and a web server's folder."""

    server: Replica
    key: str
    names: Bind
    http_port: int
    tls_port: int

    @property
    def directory(self) -> str:
        return f"https://localhost:{self.server.port}/acme/profile/{PROFILE}/directory"

    @property
    def ca(self) -> Path:
        return self.server.directory / "data" / "ca.pem"

    def eab(self, name: str) -> tuple[str, str]:
        body = {"name": name, "profile_id": PROFILE, "allowed_names": [ZONE, "127.0.0.0/8"]}
        made = self.server.did("POST", "/api/v1/acme/external-account-keys", body, self.key)
        return made["id"], made["hmac_key"]

    def hook(self, folder: Path, webroot: Path | None = None) -> Path:
        """The hook as a program of its own."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "hook"
        told = {
            "HOOK_DNS": self.names.resolver,
            "HOOK_SECRET": self.names.secret,
            "HOOK_WEBROOT": str(webroot or folder),
        }
        lines = [f"export {name}='{value}'" for name, value in told.items()]
        path.write_text("\n".join(["#!/bin/sh", *lines, f'exec {sys.executable} {HOOK} "$@"', ""]))
        path.chmod(0o755)
        return path

    def run(self, *command: object, **environ: str) -> str:
        """Run a client; its output when it succeeds."""
        told = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        told |= {
            "REQUESTS_CA_BUNDLE": str(self.ca),
            "LEGO_CA_CERTIFICATES": str(self.ca),
            "SSL_CERT_FILE": str(self.ca),
        }
        words = [str(word) for word in command]
        done = subprocess.run(words, env=told | environ, capture_output=True, text=True, timeout=170, check=False)
        assert done.returncode == 0, (
            f"{' '.join(words)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}\n{self.server.log()}"
        )
        return done.stdout + done.stderr

    def certificates(self, name: str) -> list[dict]:
        return self.server.did("GET", f"/api/v1/certificates?q={name}&source=ACME", key=self.key)["data"]


@pytest.fixture(scope="module")
def world(postgres_server, tmp_path_factory) -> Iterator[World]:
    http_port, tls_port = free_port(), free_port()
    with bind() as names, replicas(tmp_path_factory.mktemp("acme"), postgres_server) as row:
        server = row.add(
            CERTCTL_ACME_SERVER_ENABLED="true",
            CERTCTL_ACME_SERVER_EAB_REQUIRED="true",
            CERTCTL_ACME_SERVER_DEFAULT_AUTH_MODE="challenge",
            CERTCTL_ACME_SERVER_DNS01_RESOLVER=names.resolver,
            CERTCTL_ACME_SERVER_HTTP01_PORT=str(http_port),
            CERTCTL_ACME_SERVER_TLSALPN01_PORT=str(tls_port),
            CERTCTL_ACME_SERVER_ALLOWED_NETWORKS="127.0.0.0/8",
            CERTCTL_ACME_SERVER_TOS_URL="https://localhost/terms",
            CERTCTL_ACME_SERVER_DEFAULT_PROFILE_ID=PROFILE,
        )
        made = World(server, row.key, names, http_port, tls_port)
        short = {"id": SHORT, "name": "short", "max_ttl_seconds": 2 * 86400, "description": "two days"}
        server.did("POST", "/api/v1/profiles", short, row.key)
        web = {"id": PROFILE, "name": "web", "acme_auth_mode": "challenge", "acme_profiles": [SHORT]}
        server.did("POST", "/api/v1/profiles", web, row.key)
        yield made


def names_of(path: Path) -> list[str]:
    leaf = x509.load_pem_x509_certificates(path.read_bytes())[0]
    found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return sorted([*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))])


def test_certbot(world, tmp_path):
    kid, secret = world.eab("certbot")
    folders = [word for name in ("config", "work", "logs") for word in (f"--{name}-dir", tmp_path / name)]
    certbot = [Path(sys.executable).parent / "certbot", "-n", *folders, "--server", world.directory]
    http = ["--standalone", "--http-01-port", world.http_port, "--http-01-address", "127.0.0.1"]
    name = f"certbot.web.{ZONE}"
    joining = ["--agree-tos", "-m", "ops@example.com", "--eab-kid", kid, "--eab-hmac-key", secret]
    world.run(*certbot, "certonly", *http, *joining, "-d", name, "-d", f"second.{name}")
    live = tmp_path / "config" / "live" / name / "fullchain.pem"
    assert names_of(live) == sorted([name, f"second.{name}"])
    first = live.read_bytes()
    world.run(*certbot, "renew", "--force-renewal", "--no-random-sleep-on-renew")
    assert live.read_bytes() != first
    (found,) = world.certificates(name)
    assert (found["source"], found["status"]) == ("ACME", "Active")
    versions = world.server.did("GET", f"/api/v1/certificates/{found['id']}/versions", key=world.key)
    assert versions["total"] == 2
    hook = world.hook(tmp_path)
    dns = [
        "--manual",
        "--preferred-challenges",
        "dns",
        "--manual-auth-hook",
        f"{hook} auth",
        "--manual-cleanup-hook",
        f"{hook} cleanup",
    ]
    wild = f"wild.{ZONE}"
    world.run(*certbot, "certonly", *dns, "-d", wild, "-d", f"*.{wild}")
    kept = tmp_path / "config" / "live" / wild
    assert names_of(kept / "fullchain.pem") == sorted([wild, f"*.{wild}"])
    world.run(*certbot, "revoke", "--cert-path", live, "--reason", "superseded", "--no-delete-after-revoke")
    world.run(
        *certbot,
        "revoke",
        "--cert-path",
        kept / "cert.pem",
        "--key-path",
        kept / "privkey.pem",
        "--reason",
        "keycompromise",
        "--no-delete-after-revoke",
    )
    assert world.certificates(wild)[0]["status"] == "Revoked"
    # by renewal information: not yet due, then what it shows was revoked, and it renews of its own accord
    name = f"ari.web.{ZONE}"
    world.run(*certbot, "certonly", *http, "-d", name, "--required-profile", SHORT)
    live = tmp_path / "config" / "live" / name / "fullchain.pem"
    first = x509.load_pem_x509_certificates(live.read_bytes())[0]
    assert first.not_valid_after_utc - first.not_valid_before_utc <= timedelta(days=2, hours=1)
    renew = [*certbot, "renew", "--cert-name", name, "--no-random-sleep-on-renew"]
    world.run(*renew)
    assert x509.load_pem_x509_certificates(live.read_bytes())[0] == first
    (found,) = world.certificates(name)
    world.server.did("POST", f"/api/v1/certificates/{found['id']}/revoke", {"reason": "superseded"}, world.key)
    world.run(*renew)
    assert x509.load_pem_x509_certificates(live.read_bytes())[0] != first
    world.run(*certbot, "update_account", "-m", "new@example.com")
    world.run(*certbot, "unregister")


@pytest.mark.parametrize("way", ["http", "tls", "dns"])
def test_lego(world, tmp_path, way):
    kid, secret = world.eab(f"lego-{way}")
    name = f"*.lego.{ZONE}" if way == "dns" else f"lego-{way}.web.{ZONE}"
    ways = {
        "http": ["--http", "--http.port", f"127.0.0.1:{world.http_port}"],
        "tls": ["--tls", "--tls.port", f"127.0.0.1:{world.tls_port}"],
        "dns": ["--dns", "rfc2136", "--dns.resolvers", world.names.resolver, "--dns.disable-cp"],
    }
    environ = {
        "RFC2136_NAMESERVER": world.names.resolver, "RFC2136_TSIG_ALGORITHM": "hmac-sha256.", "RFC2136_TSIG_KEY": "up",
        "RFC2136_TSIG_SECRET": world.names.secret, "RFC2136_POLLING_INTERVAL": "1", "RFC2136_SEQUENCE_INTERVAL": "1",
    }  # fmt: skip
    common = [
        "lego",
        "--path",
        tmp_path,
        "--server",
        world.directory,
        "--email",
        "ops@example.com",
        "-d",
        name,
        *ways[way],
    ]
    common += ["--accept-tos", "--eab", "--kid", kid, "--hmac", secret]
    world.run(*common, "run", **environ)
    path = tmp_path / "certificates" / f"{name.replace('*', '_')}.crt"
    assert names_of(path) == [name]
    first = path.read_bytes()
    world.run(*common, "renew", "--days", "9999", "--no-random-sleep", **environ)
    assert path.read_bytes() != first
    world.run(*common, "revoke", "--keep", **environ)
    (found,) = world.certificates(name.removeprefix("*."))
    assert found["status"] == "Revoked"


def test_the_lego_library_with_profiles_and_renewal_information(world):
    if not LEGO.exists():
        raise RuntimeError("the client of lego is not built: run scripts/build-go-peers (needs go)")
    kid, secret = world.eab("lego-5")
    name = f"lego-5.web.{ZONE}"
    said = {
        "server": world.directory, "kid": kid, "hmac": secret, "profile": SHORT, "name": name,
        "http": f"127.0.0.1:{world.http_port}",
    }  # fmt: skip
    told = json.loads(world.run(LEGO, *(f"-{key}={value}" for key, value in said.items())).splitlines()[-1])
    assert told["profiles"] == {PROFILE: "web", SHORT: "two days"}
    words = ("first", "second", "third")
    first, second, third = (x509.load_pem_x509_certificates(told[word].encode())[0] for word in words)
    for leaf in (first, second, third):
        assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= timedelta(days=2, hours=1)
    start, end = (datetime.fromisoformat(told[word]) for word in ("window_start", "window_end"))
    assert first.not_valid_before_utc < start < end < first.not_valid_after_utc
    assert "invalidProfile" in told["unknown_profile"]
    (found,) = world.certificates(name)
    assert found["certificate_profile_id"] == SHORT
    versions = world.server.did("GET", f"/api/v1/certificates/{found['id']}/versions", key=world.key)["data"]
    states = {each["serial_number"]: each["status"] for each in versions}
    wanted = {first: "superseded", second: "revoked", third: "current"}
    assert states == {f"{leaf.serial_number:x}": status for leaf, status in wanted.items()}


@pytest.mark.parametrize("way", ["http-01", "dns-01"])
def test_dehydrated(world, tmp_path, way):
    kid, secret = world.eab(f"dehydrated-{way}")
    well_known = tmp_path / "www"
    well_known.mkdir()
    name = f"dehydrated.web.{ZONE}" if way == "http-01" else f"dehydrated.{ZONE}"
    settings = {
        "CA": world.directory, "BASEDIR": tmp_path, "WELLKNOWN": well_known, "CHALLENGETYPE": way, "EAB_KID": kid, "EAB_HMAC_KEY": secret,
        "CURL_OPTS": f"--cacert {world.ca} --noproxy *", "CONTACT_EMAIL": "ops@example.com", "PRIVATE_KEY_RENEW": "yes", "ACCOUNT_KEYSIZE": "2048", "KEY_ALGO": "prime256v1",
    }  # fmt: skip
    if way == "dns-01":
        settings |= {"HOOK": world.hook(tmp_path / "hooks"), "HOOK_CHAIN": "no"}
    config = tmp_path / "config"
    config.write_text("".join(f'{name}="{value}"\n' for name, value in settings.items()))
    dehydrated = ["dehydrated", "--config", config]
    with Web(port=world.http_port, folder=well_known):
        world.run(*dehydrated, "--register", "--accept-terms")
        wanted = [name] if way == "http-01" else [name, f"*.{name}"]
        world.run(*dehydrated, "-c", *(word for each in wanted for word in ("-d", each)))
        assert names_of(tmp_path / "certs" / name / "fullchain.pem") == sorted(wanted)
    world.run(*dehydrated, "--revoke", tmp_path / "certs" / name / "cert.pem")
    (found,) = [each for each in world.certificates(name) if each["common_name"] == name]
    versions = world.server.did("GET", f"/api/v1/certificates/{found['id']}/versions", key=world.key)["data"]
    assert [each["status"] for each in versions] == ["revoked"]


def test_uacme(world, tmp_path):
    kid, secret = world.eab("uacme")
    well_known = tmp_path / "www"
    well_known.mkdir()
    hook = world.hook(tmp_path / "hooks", well_known)
    name = f"uacme.web.{ZONE}"
    # its TLS library knows the system's roots alone: it gets ours in their place, in a mount namespace of its own
    roots = next(path for path in ROOTS if path.exists())
    apart = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"', world.ca, roots]
    uacme = [*apart, "uacme", "-y", "-v", "-c", tmp_path, "-a", world.directory, "-h", hook]
    with Web(port=world.http_port, folder=well_known):
        world.run(*uacme, "-e", f"{kid}:{secret}", "new", "ops@example.com")
        world.run(*uacme, "-o", "issue", name)
        assert names_of(tmp_path / name / "cert.pem") == [name]
        world.run(*uacme, "newkey")
        world.run(*uacme, "-o", "-f", "issue", name)
        world.run(*uacme, "-o", "issue", "127.0.0.1")
        assert names_of(tmp_path / "127.0.0.1" / "cert.pem") == ["127.0.0.1"]
    world.run(*uacme, "revoke", tmp_path / name / "cert.pem")
    world.run(*uacme, "revoke", tmp_path / "127.0.0.1" / "cert.pem", tmp_path / "private" / "127.0.0.1" / "key.pem")
    assert world.certificates("127.0.0.1")[0]["status"] == "Revoked"
    world.run(*uacme, "deactivate")


def test_the_acme_library(world, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(world.ca))
    kid, secret = world.eab("library")
    account = josepy.JWKEC(key=josepy.ComparableECKey(ec.generate_private_key(ec.SECP384R1())))
    net = client.ClientNetwork(account, alg=josepy.ES384, user_agent="test")
    directory = client.ClientV2.get_directory(f"https://localhost:{world.server.port}/acme/directory", net)
    assert directory.meta.external_account_required
    library = client.ClientV2(directory, net)
    with pytest.raises(messages.Error) as refused:
        library.new_account(messages.NewRegistration.from_data(email="a@example.com", terms_of_service_agreed=True))
    assert refused.value.code == "externalAccountRequired"
    binding = messages.ExternalAccountBinding.from_data(account.public_key(), kid, secret, directory)
    wanted = messages.NewRegistration.from_data(
        email="a@example.com", terms_of_service_agreed=True, external_account_binding=binding
    )
    registered = library.new_account(wanted)
    net.account = None
    with pytest.raises(errors.ConflictError) as known:
        library.new_account(wanted)
    assert known.value.location == registered.uri
    # shown with the account that it made (RFC 8555 7.3.4); the library cannot send it back
    assert set(registered.body.external_account_binding) == {"protected", "payload", "signature"}
    registered = registered.update(body=registered.body.update(external_account_binding=None))
    net.account = registered
    name, key = f"library.web.{ZONE}", rsa.generate_private_key(public_exponent=65537, key_size=2048)
    csr = csr_pem(build_csr(key, name, parse_names([name]))).encode()
    assert directory.meta.profiles == {PROFILE: "web", SHORT: "two days"}
    with pytest.raises(messages.Error) as unknown:
        library.new_order(csr, profile="nothing")
    assert unknown.value.typ == "urn:ietf:params:acme:error:invalidProfile"
    order = library.new_order(csr, profile=SHORT)
    with Web(port=world.http_port) as web:
        for proof in order.authorizations:
            way = next(each for each in proof.body.challenges if isinstance(each.chall, challenges.HTTP01))
            response, validation = way.response_and_validation(account)
            web.pages[way.chall.path] = validation.encode()
            library.answer_challenge(way, response)
        deadline = datetime.now() + timedelta(seconds=90)  # noqa: DTZ005 - the library wants no zone
        order = library.poll_authorizations(order, deadline)
        done = library.finalize_order(order, deadline, fetch_alternative_chains=True)
    chain = x509.load_pem_x509_certificates(done.fullchain_pem.encode())
    assert chain[0].public_key() == key.public_key()
    assert chain[0].not_valid_after_utc - chain[0].not_valid_before_utc <= timedelta(days=2, hours=1)
    (longer,) = done.alternative_fullchains_pem
    assert len(x509.load_pem_x509_certificates(longer.encode())) == len(chain) + 1
    moment, _ = library.renewal_time(done.fullchain_pem.encode())
    assert chain[0].not_valid_before_utc < moment < chain[0].not_valid_after_utc
    library.revoke(chain[0], 4)
    assert library.query_registration(registered).body.status == "valid"
    library.deactivate_registration(registered)
    with pytest.raises(messages.Error) as gone:
        library.new_order(csr)
    assert gone.value.code == "unauthorized"
