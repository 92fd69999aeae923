"""Hook scripts for dns-01 by the reference product's contract, as an operator would write them: dynamic updates.

`write_hooks` puts two programs into a folder; what they need beside CERTCTL_DNS_* comes by HOOK_DNS and HOOK_SECRET.
"""

from __future__ import annotations

import sys
from pathlib import Path

_HOOK = """#!{python} -I
import json, os, sys
import dns.query, dns.tsigkeyring, dns.update
seen = {{name: value for name, value in os.environ.items() if name != "HOOK_SECRET"}}
with open({log!r}, "a") as log:
    log.write(json.dumps({{"verb": {verb!r}, "argv": sys.argv[1:], "env": seen}}) + "\\n")
address, _, port = os.environ["HOOK_DNS"].rpartition(":")
ring = dns.tsigkeyring.from_text({{"up": os.environ["HOOK_SECRET"]}})
update = dns.update.UpdateMessage("acme.test", keyring=ring, keyalgorithm="hmac-sha256")
name, value = os.environ["CERTCTL_DNS_FQDN"] + ".", '"' + os.environ["CERTCTL_DNS_VALUE"] + '"'
{act}
answer = dns.query.tcp(update, address, timeout=30, port=int(port))
sys.exit(str(answer) if answer.rcode() else 0)
"""


def write_hooks(folder: Path) -> tuple[str, str, Path]:
    """The names of the present and the cleanup script in `folder`, and where they write what they were told."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    log = folder.with_name(f"{folder.name}.log")
    acts = {"present": 'update.add(name, 1, "TXT", value)', "cleanup": 'update.delete(name, "TXT", value)'}
    for verb, act in acts.items():
        path = folder / f"{verb}.py"
        path.write_text(_HOOK.format(python=sys.executable, log=str(log), verb=verb, act=act))
        path.chmod(0o755)
    return "present.py", "cleanup.py", log
