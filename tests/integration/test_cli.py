"""The command line against a real server: every resource, every form of output, the reference product's words."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certctl.cli import main, output
from certctl.core.names import parse_names
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.keys import generate_private_key
from peers.fleet import fleet

pytestmark = pytest.mark.xdist_group("cli")
EVIL = '=HYPERLINK("https://evil.example","x")'


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with fleet(tmp_path_factory.mktemp("cli")) as made:
        made.start_server()
        made.bootstrap()
        yield made


@pytest.fixture
def certctl(house, monkeypatch, capsys, tmp_path):
    """Runs a command in this process; gives what it wrote, and fails when its exit code is another than expected."""
    monkeypatch.setenv("CERTCTL_SERVER_URL", house.url)
    monkeypatch.setenv("CERTCTL_API_KEY", house.key)
    monkeypatch.setenv("CERTCTL_SERVER_CA_BUNDLE_PATH", str(house.ca_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def run(*words: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["certctl", *words])
        output.assume(output.Form.TABLE)
        with pytest.raises(SystemExit) as ended:
            main.main()
        told = capsys.readouterr()
        assert (ended.value.code or 0) == code, told.err
        return told.out if code == 0 else told.err

    return run


def records(text: str) -> list[dict]:
    return json.loads(text)["data"]


def test_records_are_made_changed_found_and_deleted(certctl):
    made = json.loads(certctl("teams", "create", "Web", "--set", "id=team-web", "-o", "json"))
    assert made["id"] == "team-web"
    certctl("owners", "create", "Anna", "--set", "email=anna@example.com", "--set", "team_id=team-web")
    certctl("teams", "update", "Web", "--set", "description=The web's people")
    assert "The web's people" in certctl("teams", "show", "team-web")
    assert certctl("teams", "get", "team-web") == certctl("teams", "show", "team-web")
    assert "Anna" in certctl("owners", "list")
    certctl("owners", "delete", "Anna", "--yes")
    assert "no owner" in certctl("owners", "show", "Anna", code=3)


def test_one_list_in_four_forms(certctl):
    certctl("teams", "create", EVIL, "--set", "id=team-evil", "--set", "description=-1+2")
    rows = records(certctl("teams", "list", "-o", "json"))
    assert rows == records(certctl("teams", "list", "--json"))
    assert rows == yaml.safe_load(certctl("teams", "list", "-o", "yaml"))["data"]
    table = certctl("teams", "list", "-o", "table")
    assert table.splitlines()[0].split() == ["NAME", "DESCRIPTION", "ID"]
    told = list(csv.DictReader(io.StringIO(certctl("teams", "list", "-o", "csv"))))
    assert [row["id"] for row in told] == [row["id"] for row in rows]
    (evil,) = [row for row in told if row["id"] == "team-evil"]
    assert evil["name"] == "'" + EVIL and evil["description"] == "'-1+2"
    (true,) = [row for row in rows if row["id"] == "team-evil"]
    assert true["name"] == EVIL, "quoting is the spreadsheet's form alone"
    assert "Invalid value" in certctl("teams", "list", "-o", "xml", code=2)


def test_a_whole_list_is_read(certctl):
    for number in range(5):
        certctl("teams", "create", f"Many {number}")
    every = records(certctl("teams", "list", "--all", "--json"))
    assert len(every) >= 5
    assert len(records(certctl("teams", "list", "--limit", "2", "--json"))) == 2
    second = records(certctl("teams", "list", "--page", "2", "--per-page", "2", "--json"))
    assert second == every[2:4]


def test_a_certificate_by_csr_from_request_to_revocation(certctl, tmp_path):
    csr = tmp_path / "a.csr"
    key = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run(
        [*key, "-keyout", str(tmp_path / "a.key"), "-subj", "/CN=cli.example", "-out", str(csr)],
        check=True,
        capture_output=True,
    )
    certctl("certs", "request", "cli.example", "--csr", str(csr), "--id", "mc-cli")
    assert "mc-cli" in {row["id"] for row in records(certctl("certs", "list", "--status", "Active", "--json"))}
    assert records(certctl("certs", "list", "--filter", "status=Revoked", "--json")) == []
    (version,) = records(certctl("certs", "versions", "mc-cli", "-o", "json"))
    certctl("certs", "export", "mc-cli", "--pkcs12", "--out", str(tmp_path / "a.p12"))
    assert (tmp_path / "a.p12").read_bytes()[0] == 0x30
    assert "BEGIN CERTIFICATE" in certctl("certs", "export", "mc-cli")
    assert certctl("certs", "get", "mc-cli") == certctl("certs", "show", "mc-cli")
    preview = json.loads(certctl("certs", "bulk-revoke", "mc-cli", "--dry-run", "--json"))
    assert (preview["total_matched"], preview["dry_run"]) == (1, True)
    told = certctl("certs", "bulk-revoke", "mc-cli", "--reason", "superseded", "--yes")
    assert ["Matched", "1"] in [line.split() for line in told.splitlines()]
    assert "Revoked" in certctl("certs", "show", "mc-cli")
    (batch, *_) = records(certctl("batches", "list", "--json"))
    assert json.loads(certctl("batches", "wait", batch["id"], "--json"))["done"] == 1
    assert records(certctl("batches", "items", batch["id"], "--json"))[0]["certificate_id"] == "mc-cli"
    assert version["certificate_id"] == "mc-cli"


@pytest.mark.parametrize(
    "words",
    [
        ["agents", "list", "--retired"], ["agent-groups", "list"], ["approvals", "list"], ["batches", "list"],
        ["certs", "list"], ["issuers", "list"], ["jobs", "list"], ["keys", "list"], ["owners", "list"],
        ["profiles", "list"], ["policies", "list"], ["renewal-policies", "list"], ["targets", "list"], ["teams", "list"], ["stats", "certificates"],
        ["stats", "summary"], ["stats", "expirations"], ["stats", "job-trends"], ["stats", "issuances"], ["forecast"],
        ["metrics"], ["status"], ["version"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_everything_that_is_shown_is_shown_in_every_form(certctl, words):
    table = certctl(*words)
    shown = json.loads(certctl(*words, "-o", "json"))
    assert type(yaml.safe_load(certctl(*words, "-o", "yaml"))) is type(shown)
    told = list(csv.reader(io.StringIO(certctl(*words, "-o", "csv"))))
    widths = {len(row) for row in told}
    assert len(widths) <= 1
    assert table or not told[1:]


def test_agent_groups_and_their_members(certctl):
    certctl("agent-groups", "create", "Linux", "--set", "match_os=linux")
    assert records(certctl("agent-groups", "members", "Linux", "--json")) == []


def test_the_reference_products_flags_and_words(certctl, house):
    flags = ["--server", house.url, "--ca-bundle", str(house.ca_path), "--format", "json"]
    assert "data" in json.loads(
        certctl(*flags, "certs", "list", "--status", "Active", "--page", "1", "--per-page", "50")
    )
    assert "data" in json.loads(certctl(*flags, "agents", "list"))
    assert "data" in json.loads(certctl(*flags, "jobs", "list", "--status", "Failed", "--type", "Renewal"))
    assert "CERTCTL_API_KEY" in certctl("--api-key", "x", "certs", "list", code=2)
    assert "--ca-bundle" in certctl("--insecure", "certs", "list", code=2)


def test_policies_intermediates_and_renewal_policies(certctl):
    assert records(certctl("issuers", "intermediates", "iss-local", "--json"))
    (*_, ca) = records(certctl("issuers", "intermediates", "iss-local", "--json"))
    assert json.loads(certctl("intermediates", "show", ca["id"], "--json"))["id"] == ca["id"]
    assert ca["id"] in certctl("intermediates", "crls")
    assert json.loads(certctl("intermediates", "crls", "--json"))["row_count"] == 2
    assert "rp-standard" in certctl("renewal-policies", "list")
    assert isinstance(records(certctl("policies", "list", "--json")), list)


def test_events_are_followed_from_where_one_left_off(certctl):
    enough = threading.Event()
    made = threading.Thread(target=_make_teams, args=(dict(os.environ), enough), daemon=True)
    made.start()
    line = json.loads(certctl("events", "follow", "--limit", "1", "-o", "json"))
    assert {"id", "type", "subject_type", "subject_id", "at"} <= set(line)
    again = json.loads(certctl("events", "follow", "--since", line["id"], "--limit", "1", "-o", "json"))
    assert again["id"] != line["id"]
    enough.set()
    made.join(60)


def _make_teams(environ, enough):
    """Another process makes things, one after the other, so that there is always something to hear: who listens may be slow."""
    for number in range(500):
        if enough.is_set():
            return
        command = [sys.executable, "-m", "certctl.cli.main", "teams", "create", f"Heard {number}"]
        subprocess.run(command, env=environ, check=True, capture_output=True, timeout=60)


def test_prometheus_text(certctl):
    assert "# TYPE certctl_certificate_total gauge" in certctl("metrics", "--prometheus")


def test_every_exit_code(certctl, monkeypatch, house):
    certctl("teams", "show", "team-none", code=3)
    certctl("teams", "create", "x", "--set", "colour=red", code=2)
    monkeypatch.setenv("CERTCTL_API_KEY", "wrong")
    certctl("teams", "list", code=4)
    monkeypatch.setenv("CERTCTL_SERVER_URL", "https://127.0.0.1:1")
    certctl("teams", "list", code=5)


BASH = """
set -e
source {script}
COMP_WORDS=(certctl {words}); COMP_CWORD={at}; COMPREPLY=()
_certctl_completion certctl
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [("cer", {"certs"}), ("certs re", {"request", "renew", "revoke"}), ("teams list --out", {"--output"}),
     ("teams list -o y", {"yaml"})],
)  # fmt: skip
def test_bash_completes(tmp_path, words, expected):
    """The script that typer makes, sourced by a real bash, and asked as readline asks."""
    certctl = Path(sys.executable).parent / "certctl"
    clean = {"PATH": f"{certctl.parent}:/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    asked = clean | {"_CERTCTL_COMPLETE": "source_bash"}
    script = subprocess.run([str(certctl)], env=asked, capture_output=True, text=True, timeout=60, check=True).stdout
    (tmp_path / "complete.bash").write_text(script)
    text = BASH.format(script=tmp_path / "complete.bash", words=words, at=len(words.split()))
    told = subprocess.run(["bash", "-c", text], env=clean, capture_output=True, text=True, timeout=60, check=True)
    assert expected <= set(told.stdout.split()), told


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_its_script(tmp_path, shell):
    certctl = Path(sys.executable).parent / "certctl"
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    asked = environ | {"_CERTCTL_COMPLETE": f"source_{shell}"}
    told = subprocess.run([str(certctl)], env=asked, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "_CERTCTL_COMPLETE" in told and "certctl" in told


def test_roles_are_made_granted_and_taken_back_and_keys_rotate(certctl):
    role_id = certctl("roles", "create", "cli-reader", "--permission", "cert.read").strip()
    certctl("roles", "allow", "cli-reader", "job.read", "--only", "team:team-x", code=4)
    certctl("teams", "create", "Role team", "--set", "id=team-x")
    certctl("roles", "allow", "cli-reader", "job.read", "--only", "team:team-x")
    held = json.loads(certctl("roles", "show", "cli-reader", "-o", "json"))["permissions"]
    assert {(one["permission"], one["scope_type"], one["scope_id"]) for one in held} == {
        ("cert.read", "global", ""),
        ("job.read", "team", "team-x"),
    }
    assert "cli-reader" in certctl("roles", "list")
    first = certctl("keys", "create", "cli-held", "--role", "r-auditor").strip()
    certctl("keys", "grant", "cli-held", "cli-reader")
    certctl("roles", "delete", "cli-reader", "--yes", code=4)
    certctl("keys", "revoke-role", "cli-held", role_id)
    second = certctl("keys", "rotate", "cli-held", "--overlap", "1h").strip()
    assert second != first
    assert second.startswith("ctk_")
    certctl("roles", "forbid", "cli-reader", "job.read", "--only", "team:team-x")
    certctl("roles", "delete", "cli-reader", "--yes")
    assert "no role" in certctl("roles", "show", "cli-reader", code=3)
    assert "--only takes" in certctl("roles", "allow", "r-viewer", "cert.read", "--only", "everything", code=2)


def test_people_and_their_sessions(certctl, tmp_path):
    for form in ("json", "yaml", "csv", "table"):
        certctl("sessions", "list", "--actor", "*", "-o", form)
        certctl("users", "list", "-q", "nobody", "-o", form)
        certctl("settings", "-o", form)
        certctl("roles", "permissions", "-o", form)
    assert "CERTCTL_AUTH_TYPE" in certctl("settings")
    assert "no session" in certctl("sessions", "revoke", "ses-nowhere", code=3)
    assert json.loads(certctl("sessions", "revoke-all", "--yes", "--json")) == {"revoked_count": 0}
    assert "no user" in certctl("users", "deactivate", "u-nowhere", "--yes", code=3)
    assert "no user" in certctl("users", "reactivate", "u-nowhere", code=3)
    # switched off, the password door is not there
    assert certctl("breakglass", "list", code=3)
    password = tmp_path / "password"
    password.write_text("correct horse battery staple\n")
    assert certctl("breakglass", "set", "anna", "--password-file", str(password), code=3)
    assert certctl("breakglass", "unlock", "anna", code=3)
    assert certctl("breakglass", "delete", "anna", "--yes", code=3)
    assert "never an argument" in certctl("breakglass", "set", "anna", code=2)
    assert json.loads(certctl("roles", "remove-demo-grants", "--json")) == {"removed": 0}
    role = json.loads(certctl("roles", "create", "readers", "--json"))
    certctl("roles", "update", "readers", "--description", "they read")
    assert "they read" in certctl("roles", "show", role["id"])
    assert "give --name" in certctl("roles", "update", "readers", code=2)


def test_certificates_from_elsewhere(certctl, tmp_path):
    pem, der, broken, key = (tmp_path / name for name in ("a.pem", "b.der", "c.pem", "d.pem"))
    first, second = (self_signed(name) for name in ("a.example", "b.example"))
    pem.write_bytes(first.public_bytes(Encoding.PEM))
    der.write_bytes(second.public_bytes(Encoding.DER))
    answer = json.loads(certctl("certs", "import", str(pem), str(der), "--tag", "from=cli", "--json"))
    assert [row["status"] for row in answer["results"]] == ["imported", "imported"]
    assert "known" in certctl("certs", "import", str(pem))
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert "cannot be read" in certctl("certs", "import", str(broken), code=4)
    key.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    assert "private key" in certctl("certs", "import", str(key), code=2)
    assert "cannot be read" in certctl("certs", "import", str(tmp_path / "none"), code=2)
    certificate_id = answer["results"][0]["certificate_id"]
    claimed = json.loads(certctl("certs", "claim", certificate_id, "--profile", "prof-default", "--json"))
    assert claimed["id"] == certificate_id
    certctl("certs", "update", certificate_id, "--set", "environment=staging")
    assert "staging" in certctl("certs", "show", certificate_id)
    request = tmp_path / "own.csr"
    request.write_text(own_csr("a.example"))
    assert "status" in json.loads(certctl("certs", "submit-csr", certificate_id, str(request), "--json"))
    assert certctl("certs", "reissue", "nowhere", code=3)
    many = [tmp_path / f"many{number}.csr" for number in range(2)]
    for number, path in enumerate(many):
        path.write_text(own_csr(f"many{number}.example"))
    certctl("certs", "bulk-issue", *map(str, many), "--out", str(tmp_path / "out"), "--tag", "from=cli")
    issued = x509.load_pem_x509_certificates((tmp_path / "out" / "many1.pem").read_bytes())
    assert issued[0].subject.rfc4514_string() == "CN=many1.example"
    issued[0].verify_directly_issued_by(issued[1])
    certctl("certs", "bulk-issue", *map(str, many), code=1)  # their names are taken
    assert "no CSR" in certctl("certs", "bulk-issue", str(key), code=2)
    tried = certctl("policies", "try", "--set", "type=RequiredMetadata", "--set", 'config={"required_keys":["cost"]}')
    assert "violations" in tried


def self_signed(name: str) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )


def own_csr(name: str) -> str:
    key = generate_private_key(KeyAlgorithm.ECDSA_P256)
    return csr_pem(build_csr(key, name, parse_names([name]), False))
