"""What ACME clients call to answer a challenge: a TXT record by dynamic update, or a file in a web server's folder.

Speaks to certbot (CERTBOT_* variables), dehydrated (deploy_challenge, clean_challenge) and uacme (begin, done, failed).
HOOK_DNS is address:port of the name server, HOOK_SECRET its TSIG secret, HOOK_WEBROOT the folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import dns.query
import dns.tsigkeyring
import dns.update

ZONE = "acme.test"


def record(domain: str, value: str, *, there: bool) -> None:
    address, _, port = os.environ["HOOK_DNS"].rpartition(":")
    ring = dns.tsigkeyring.from_text({"up": os.environ["HOOK_SECRET"]})
    update = dns.update.UpdateMessage(ZONE, keyring=ring, keyalgorithm="hmac-sha256")
    name = f"_acme-challenge.{domain.removeprefix('*.')}."
    if there:
        update.add(name, 1, "TXT", f'"{value}"')
    else:
        update.delete(name, "TXT", f'"{value}"')
    answer = dns.query.tcp(update, address, timeout=30, port=int(port))
    assert answer.rcode() == 0, answer


def file(token: str, content: str, *, there: bool) -> None:
    path = Path(os.environ["HOOK_WEBROOT"]) / token
    if there:
        path.write_text(content)
    else:
        path.unlink(missing_ok=True)


def main(arguments: list[str]) -> int:
    verb, rest = arguments[0], arguments[1:]
    if verb in {"auth", "cleanup"}:
        record(os.environ["CERTBOT_DOMAIN"], os.environ["CERTBOT_VALIDATION"], there=verb == "auth")
    elif verb in {"deploy_challenge", "clean_challenge"}:
        for at in range(0, len(rest), 3):
            record(rest[at], rest[at + 2], there=verb == "deploy_challenge")
    elif verb in {"begin", "done", "failed"}:
        kind, domain, token, content = rest
        if kind == "http-01":
            file(token, content, there=verb == "begin")
        elif kind == "dns-01":
            record(domain, content, there=verb == "begin")
        else:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
