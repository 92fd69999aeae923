"""The process of a DNS provider's client: what it says is judged, what it may do is little, what it fails of is told."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.connectors.dial import DialPolicy
from certctl.connectors.solvers import lexicon
from certctl.connectors.solvers.lexicon import Account, LexiconSolver, scrub
from certctl.connectors.solvers.lexicon.errand import CHILD, Ended, read_wish
from certctl.core.errors import ConnectorError, Misconfigured, Rejected, Temporary, TrustError
from certctl.core.secret import Secret

_ESCAPES = """
import json, os, runpy, socket, subprocess, sys
child = runpy.run_path(sys.argv[1])
control = socket.socket(fileno=os.dup(0))
child["bound"](60)
child["guard"](child["Line"](control), (sys.prefix, sys.base_prefix, *sys.path))
import _socket
def udp(): socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("127.0.0.1", 53))
def sendto(): socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 53))
def raw(): _socket.socket(socket.AF_INET, socket.SOCK_STREAM).connect(("127.0.0.1", 1))
def unix(): socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).connect("/run/any")
def listen(): socket.socket(socket.AF_INET, socket.SOCK_STREAM).bind(("127.0.0.1", 0))
def names(): _socket.getaddrinfo("metadata.test", 80)
def reads(): open("/etc/passwd").read()
def writes(): open(os.path.join(sys.prefix, "left-behind"), "w")
def removes(): os.remove("/tmp/any")
def runs(): subprocess.run(["/bin/true"])
def shell(): os.system("true")
def forks(): os.fork()
told = {}
for act in (udp, sendto, raw, unix, listen, names, reads, writes, removes, runs, shell, forks):
    try:
        act()
        told[act.__name__] = "did it"
    except PermissionError as error:
        told[act.__name__] = "refused"
    except BaseException as error:
        told[act.__name__] = repr(error)
import email.mime.text  # a library is still found
print(json.dumps(told))
"""
POLICY = DialPolicy("issuers")


def solver(**changes: object) -> LexiconSolver:
    given = {
        "provider": "powerdns",
        "options": {"pdns_server": "https://dns.test"},
        "secrets": Secret("auth_token=a:token/with+signs"),
        "zone": "",
        "watched": (),
        "resolver": "",
    }
    return LexiconSolver(Account(**(given | changes)), POLICY)


def test_nothing_leads_out_of_the_process_but_what_the_server_opens():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        command = [sys.executable, "-I", "-c", _ESCAPES, str(CHILD)]
        ran = subprocess.run(command, stdin=theirs.fileno(), capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert set(told.values()) == {"refused"}, told
    assert len(told) == 12


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["dial", "done", "kind", "said", "x"]), inner, max_size=4)
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode())
)
def test_whatever_the_process_says_is_a_wish_or_an_error_of_ours(message):
    try:
        wish = read_wish(message)
    except TrustError:
        return
    assert (wish.dial is None) != (wish.done is None)
    assert wish.dial is None or 0 < wish.dial[1] < 65536


@given(st.text(max_size=30), st.text(max_size=100), st.text(alphabet="abc:/+%= \"'\\", min_size=4, max_size=20))
def test_whatever_it_fails_of_is_an_error_of_ours_without_the_secret(kind, said, token):
    if not token.strip() or "=" in token or token != token.strip() or len(token) < 4:
        return
    made = solver(secrets=Secret(f"auth_token={token}"))
    error = made._error(Ended(False, kind, f"{said} {token} https://x.test/?key={token}&b {said}"))
    assert isinstance(error, ConnectorError)
    assert len(error.message) < 1500
    if len(token) > 12:  # a short one may be a part of our own sentence
        assert token not in error.message


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        ("status 401", Misconfigured),
        ("status 403", Misconfigured),
        ("credentials", Misconfigured),
        ("missing", Misconfigured),
        ("forbidden", Misconfigured),
        ("status 404", Rejected),
        ("status 422", Rejected),
        ("failed", Rejected),
        ("status 429", Temporary),
        ("status 503", Temporary),
        ("network", Temporary),
    ],
)
def test_each_failure_says_whether_it_may_pass(kind, family):
    error = solver()._error(Ended(False, kind, "HTTPError: a%3Atoken/with%2Bsigns and a:token/with+signs"))
    assert type(error) is family
    assert "token" not in error.message
    assert "powerdns" in error.message


def test_a_refused_connection_is_what_is_told_first():
    refused = Misconfigured("issuers: 169.254.169.254 is a cloud metadata address and is not dialled")
    assert solver()._error(Ended(False, "network", "ConnectionError", refused)) is refused


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(lexicon, "find_spec", lambda _: None)
    with pytest.raises(Misconfigured, match=r"pip install 'certctl\[lexicon\]'"):
        solver()


def test_queries_of_addresses_are_cut():
    assert scrub("for url: https://x.test/a?token=abc next", ()) == "for url: https://x.test/a?[...] next"
