"""A real control plane in a process of its own, with hosts that speak the agents' protocol by hand, for the dashboard's
tests: real rows, real certificates of the built-in CA, no agent to wait for.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from certctl.core.names import parse_names
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.fingerprints import sha256_hex
from certctl.pki.keys import generate_private_key
from certctl.pki.pem import read_certificates
from peers.ports import free_port

# what turns the direction of writing without being seen is refused by every door (`core.labels`)
HOSTILE = '<script>document.title="owned"</script>"><img src=x onerror=alert(1)>{{7*7}} \u05d0\u05d1\u05d2 ' + "x" * 110
LONG = "a" * 60 + "." + "b" * 60 + "." + "c" * 60 + ".example.com"
_READY_SECONDS = 90


class Site:
    """One control plane, its first administrator's key, and calls to its API."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"https://localhost:{self.port}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CERTCTL_")}
        self._environ = inherited | {
            "CERTCTL_DATA_DIR": str(directory),
            "CERTCTL_SERVER_PORT": str(self.port),
            "CERTCTL_PKI_HTTP_PORT": str(free_port()),
            "CERTCTL_BREAKGLASS_ENABLED": "true",
            # who is told by a channel listens beside it
            "CERTCTL_NOTIFICATION_ALLOW": "127.0.0.1",
            # nothing is sent again but by a click
            "CERTCTL_NOTIFICATION_RETRY_INTERVAL": "1h",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._log = directory.parent / "server.log"
        self._client: httpx.Client | None = None
        self.admin = ""
        self.ids: dict[str, str] = {}
        self.kept: set[str] = set()

    def start(self) -> None:
        """Start, or start again on what is there; returns once it is ready."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "certctl.cli.server"], env=self._environ, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise AssertionError(self._log.read_text())
            try:
                if self.raw("GET", "/ready").status_code == 200:
                    break
            except (OSError, httpx.HTTPError):
                time.sleep(0.1)
        else:
            raise AssertionError(f"not ready: {self._log.read_text()}")
        if not self.admin:
            token = (self.directory / "bootstrap-token").read_text().strip()
            body = {"token": token, "actor_name": "olivia"}
            self.admin = self.call("POST", "/api/v1/auth/bootstrap", body, key="none", status=201)["key_value"]

    def stop(self) -> None:
        """Stop it."""
        if self._client is not None:
            self._client.close()
            self._client = None
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)

    def raw(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One call as it is, following nothing and keeping no cookie."""
        if self._client is None:
            context = ssl.create_default_context(cafile=str(self.directory / "ca.pem"))
            self._client = httpx.Client(verify=context, timeout=60, base_url=self.url)
        self._client.cookies.clear()
        return self._client.request(method, path, **more)

    def call(self, method: str, path: str, body: Any = None, *, key: str = "", status: int = 0) -> Any:
        """One call of the API that has to go well."""
        bearer = key or self.admin
        headers = {} if bearer == "none" else {"Authorization": f"Bearer {bearer}"}
        more = {"json": body} if body is not None else {}
        answer = self.raw(method, path, headers=headers, **more)
        assert answer.status_code == status or (not status and answer.is_success), (path, answer.text)
        return answer.json() if answer.content else None

    def cookies(self, key: str = "") -> list[dict[str, Any]]:
        """A new session's cookies, as a browser keeps them."""
        answer = self.raw("POST", "/auth/login", json={"api_key": key or self.admin})
        assert answer.status_code == 200, answer.text
        return [
            {"name": cookie.name, "value": cookie.value, "url": self.url, "secure": True, "sameSite": "Lax"}
            for cookie in answer.cookies.jar
        ]

    def key(self, name: str, *roles: str) -> str:
        """A key with these roles."""
        return self.call("POST", "/api/v1/auth/keys", {"name": name, "role_ids": list(roles)})["key_value"]

    def issued(self, name: str) -> str:
        """The id of a certificate whose key somebody else keeps."""
        body = {"common_name": name, "csr_pem": client_csr(name)}
        return self.call("POST", "/api/v1/certificates", body)["id"]

    def until(self, path: str, done: Any, what: str, seconds: float = 60) -> Any:
        """Ask until an answer is as it should be."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = self.call("GET", path)
            if done(found):
                return found
            time.sleep(0.1)
        raise AssertionError(f"{what}: {found}")


class Host:
    """A host with an agent, played by hand."""

    def __init__(self, site: Site, name: str, token: str = "") -> None:
        self.site, self.name = site, name
        token = token or site.call("POST", "/api/v1/agents/enrolment-tokens", {"agent_name": name})["token"]
        said = {"name": name, "hostname": f"{name}.test", "os": "linux", "version": "0.1.0"}
        enrolled = site.call("POST", "/api/v1/agents", said, key=token)
        self.id, self.credential = enrolled["id"], enrolled["credential"]
        self.serves = ""

    def target(self, name: str) -> str:
        """A target on this host."""
        config = {
            "cert_path": f"/etc/nginx/tls/{self.name}.crt",
            "key_path": f"/etc/nginx/tls/{self.name}.key",
            "endpoint": "127.0.0.1:443",
        }
        body = {"name": name, "type": "nginx", "agent_id": self.id, "config": config}
        return self.site.call("POST", "/api/v1/targets", body)["id"]

    def serve(self) -> None:
        """Do all the work there is, honestly."""
        while items := self._call("GET", f"/agents/{self.id}/work?wait=0&boot_id=boot-1")["jobs"]:
            for item in items:
                {"prepare": self._csr, "deploy": self._deploy, "verify": self._verify}[item["step_kind"]](item)

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        return self.site.call(method, f"/api/v1{path}", body, key=self.credential)

    def _csr(self, item: dict[str, Any]) -> None:
        key = generate_private_key(KeyAlgorithm(item["key_algorithm"]))
        pem = csr_pem(build_csr(key, item["common_name"], parse_names(item["sans"]), item["must_staple"]))
        body = {"csr_pem": pem, "job_id": item["id"], "step_id": item["step_id"], "fence": item["fence"]}
        self._call("POST", f"/agents/{self.id}/csr", body)

    def _deploy(self, item: dict[str, Any]) -> None:
        before, self.serves = self.serves, sha256_hex(read_certificates(item["certificate_pem"])[0])
        receipt = {"plan_id": item["plan_id"], "served_before": before, "served_after": self.serves}
        body = {"status": "Completed", "step_id": item["step_id"], "fence": item["fence"], "receipt": receipt}
        self._call("POST", f"/agents/{self.id}/jobs/{item['id']}/status", body)

    def _verify(self, item: dict[str, Any]) -> None:
        body = {
            "target_id": item["target_id"],
            "expected_fingerprint": item["fingerprint_sha256"],
            "actual_fingerprint": self.serves,
            "verified": True,
            "step_id": item["step_id"],
            "fence": item["fence"],
        }
        self._call("POST", f"/jobs/{item['id']}/verify", body)


def client_csr(name: str) -> str:
    """A CSR of somebody who keeps the key."""
    return csr_pem(build_csr(generate_private_key(KeyAlgorithm.ECDSA_P256), name, parse_names([name]), False))


@contextlib.contextmanager
def open_site(directory: Path) -> Iterator[Site]:
    """A control plane on an empty directory."""
    site = Site(directory / "data")
    try:
        site.start()
        yield site
    finally:
        if site._process is not None:
            site.stop()


def _harmful(agent_id: str) -> dict[str, dict[str, Any]]:
    """What is set up under a name that means harm, by its path in the API."""
    nginx = {"cert_path": "/etc/nginx/tls/site.crt", "key_path": "/etc/nginx/tls/site.key"}
    acme = {"directory_url": "https://acme.invalid/directory", "terms_of_service_agreed": True}
    return {
        "owners": {"email": "tls-team@example.com"},
        "profiles": {"max_ttl_seconds": 7_776_000, "requires_approval": True},
        "renewal-policies": {"renewal_window_days": 30},
        "policies": {"type": "AllowedEnvironments", "severity": "Warning", "config": {"allowed": ["production"]}},
        "agent-groups": {"match_architecture": "m68k"},
        "notification-channels": {"type": "Webhook", "enabled": False, "config": {"url": "https://hooks.invalid/x"}},
        "issuers": {"type": "ACME", "enabled": False, "config": acme},
        "targets": {"type": "nginx", "agent_id": agent_id, "config": nginx},
    }


def furnish(site: Site) -> dict[str, str]:
    """A small estate: what is proven, what waits, what failed, what was revoked, and names that mean harm."""
    team = site.call("POST", "/api/v1/teams", {"name": "storefront"})["id"]
    edge, silent = Host(site, "edge-ams-01"), Host(site, "dc-02")
    shop = edge.target("edge-ams-01 :443")
    old = silent.target("dc-02 :636")
    ids = {"team": team, "teams": site.call("POST", "/api/v1/teams", {"name": HOSTILE})["id"]}
    ids |= {"edge": edge.id, "shop_target": shop}
    made = {
        "shop": {"common_name": "shop.example.com", "sans": ["shop.example.com", "www.shop.example.com"],
                 "target_ids": [shop], "team_id": team, "environment": "production"},
        "ldap": {"common_name": "ldap.internal.example", "target_ids": [old], "team_id": team},
        "waiting": {"common_name": "nobody.example.com"},
        "client": {"common_name": "client.example.com", "csr_pem": client_csr("client.example.com")},
        "gone": {"common_name": "old-shop.example.com", "csr_pem": client_csr("old-shop.example.com")},
        "hostile": {"common_name": "hostile.example.com", "name": HOSTILE, "csr_pem": client_csr("hostile.example.com")},
        "long": {"common_name": "long.example.com", "name": LONG, "csr_pem": client_csr("long.example.com")},
    }  # fmt: skip
    for word, body in made.items():
        ids[word] = site.call("POST", "/api/v1/certificates", body)["id"]
    edge.serve()
    site.until(f"/api/v1/certificates/{ids['shop']}", lambda c: c["status"] == "Active", "shop is issued")
    site.call("POST", f"/api/v1/certificates/{ids['shop']}/renew", {})
    edge.serve()
    profile = {"name": "two people", "allowed_key_algorithms": [], "requires_approval": True}
    asked = site.call("POST", "/api/v1/profiles", profile)["id"]
    for name in ("mail.example.com", "pay.example.net"):
        body = {"common_name": name, "csr_pem": client_csr(name), "certificate_profile_id": asked}
        ids[name] = site.call("POST", "/api/v1/certificates", body)["id"]
    rule = {
        "name": "an owner for each",
        "type": "RequiredMetadata",
        "severity": "Warning",
        "config": {"required_keys": ["owner"]},
    }
    ids["rule"] = site.call("POST", "/api/v1/policies", rule)["id"]
    ids["job"] = site.call("GET", f"/api/v1/jobs?certificate_id={ids['shop']}&type=Deployment")["data"][0]["id"]
    dry = {"certificate_ids": [ids["client"], ids["shop"]], "dry_run": True}
    ids["batch"] = site.call("POST", "/api/v1/certificates/bulk-renew", dry)["batch_id"]
    site.call("POST", f"/api/v1/certificates/{ids['gone']}/revoke", {"reason": "superseded"})
    for word, body in _harmful(edge.id).items():
        ids[word] = site.call("POST", f"/api/v1/{word}", {"name": HOSTILE} | body)["id"]
    # nobody listens there; loopback is where this server may look
    watched = {"endpoint": "127.0.0.1:1", "certificate_id": ids["shop"], "degraded_threshold": 1, "down_threshold": 1}
    ids["health-checks"] = site.call("POST", "/api/v1/health-checks", watched)["id"]
    ids["roles"] = site.call("POST", "/api/v1/auth/roles", {"name": HOSTILE[:100]})["id"]
    vouching = {"name": HOSTILE, "profile_id": "prof-default", "allowed_names": ["example.com"]}
    ids["external-keys"] = site.call("POST", "/api/v1/acme/external-account-keys", vouching)["id"]
    for number in range(6):
        name = f"api-{number:02}.bulk.example.com"
        site.call("POST", "/api/v1/certificates", {"common_name": name, "csr_pem": client_csr(name)})
    return ids
