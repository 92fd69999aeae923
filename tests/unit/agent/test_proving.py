"""Answers to challenges on this host: only what is allowed, exactly what is wanted, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from certctl.agent.listening import AlpnListener, HttpListener, challenge_pem, server_name
from certctl.agent.proving import Proving, check
from certctl.connectors.host.allow import AllowFile, load_allow_file
from certctl.core.errors import CertctlError, Misconfigured, Rejected, Unsupported
from certctl.telemetry import points
from certctl.wire.agent import HostAnswer
from peers.ports import free_port

THUMBPRINT = "t" * 43


def answer(token: str = "token-1", **more: object) -> HostAnswer:
    told = {"type": "http-01", "name": "shop.test", "key_authorization": f"{token}.{THUMBPRINT}", "token": token}
    return HostAnswer(**(told | more))


def proving(tmp_path: Path, *webroots: Path) -> Proving:
    allow = AllowFile(path=tmp_path / "allow.toml", webroots=webroots)
    return Proving(tmp_path / "state", lambda: allow)


def there(webroot: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in webroot.rglob("*") if path.is_file()}


async def test_a_job_has_exactly_its_answers_in_the_folder(tmp_path):
    root = tmp_path / "www"
    root.mkdir()
    host = proving(tmp_path, root)
    one, two = answer("one", webroot=str(root)), answer("two", webroot=str(root))
    assert await host.hold("job-1", [one, two]) == ["one", "two"]
    assert await host.hold("job-2", [answer("three", webroot=str(root))]) == ["three"]
    assert there(root) == {name: f"{name}.{THUMBPRINT}" for name in ("one", "two", "three")}
    assert (root / ".well-known/acme-challenge/one").stat().st_mode & 0o777 == 0o644
    assert await host.hold("job-1", [two]) == ["two"], "twice is once, and what is not wanted goes"
    assert set(there(root)) == {"two", "three"}
    await host.hold("job-1", [])
    assert set(there(root)) == {"three"}
    await host.close()
    assert there(root) == {}
    assert list((tmp_path / "state" / "challenges").iterdir()) == []


async def test_time_ends_what_the_server_never_ends(tmp_path):
    root = tmp_path / "www"
    root.mkdir()
    host = proving(tmp_path, root)
    await host.hold("job-1", [answer(webroot=str(root), seconds=0.0)])
    async with asyncio.timeout(60):
        while there(root):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "at", ["agent.challenge.note.named", "agent.challenge.file.written", "agent.challenge.file.removed"]
)
async def test_a_killed_agent_leaves_nothing_to_its_next_run(at, tmp_path):
    root = tmp_path / "www"
    root.mkdir()

    class KilledError(BaseException):
        """The process is gone."""

    def hook(name: str) -> None:
        if name == at:
            raise KilledError(name)

    host = proving(tmp_path, root)
    host._take_away_all = lambda _: asyncio.sleep(0)  # what is dead cleans nothing up
    points.hook = hook
    try:
        with pytest.raises(KilledError):
            await host.hold("job-1", [answer(webroot=str(root))])
            await host.hold("job-1", [])
    finally:
        points.hook = None
    following = proving(tmp_path, root)
    await following.recover()
    assert there(root) == {}
    assert list((tmp_path / "state" / "challenges").iterdir()) == []
    assert await following.hold("job-1", [answer(webroot=str(root))]) == ["token-1"]


async def test_what_the_host_does_not_allow_is_not_touched(tmp_path):
    root, other = tmp_path / "www", tmp_path / "other"
    root.mkdir()
    kept = other / ".well-known/acme-challenge/token-1"
    kept.parent.mkdir(parents=True)
    kept.write_text("somebody else's")
    host = proving(tmp_path, root)
    with pytest.raises(Misconfigured, match=r"\[\[webroot\]\]"):
        await host.hold("job-1", [answer("ok", webroot=str(root)), answer(webroot=str(other))])
    assert kept.read_text() == "somebody else's"
    assert there(root) == {}, "what was begun is taken away"
    with pytest.raises(Misconfigured, match=r"\[\[port\]\]\nnumber = 8080"):
        await host.hold("job-1", [answer(port=8080)])
    (root / ".well-known/acme-challenge").rmdir()
    (root / ".well-known").rmdir()
    (root / ".well-known").symlink_to(other / ".well-known")
    with pytest.raises(Misconfigured, match="link"):
        await host.hold("job-1", [answer(webroot=str(root))])
    assert kept.read_text() == "somebody else's"


@given(
    st.sampled_from(["http-01", "tls-alpn-01", "dns-01", ""]),
    st.text(max_size=30),
    st.text(max_size=80),
    st.text(max_size=30),
)
def test_any_answer_is_one_or_is_refused(kind, token, key_authorization, name):
    with contextlib.suppress(Rejected, Unsupported):
        good = check(HostAnswer(type=kind, name=name, token=token, key_authorization=key_authorization))
        assert "/" not in good.token
        assert "." not in good.token


@pytest.mark.parametrize(
    "bad",
    [
        {"token": "../x", "key_authorization": f"../x.{THUMBPRINT}"},
        {"key_authorization": f"other.{THUMBPRINT}"},
        {"key_authorization": "token-1.-----BEGIN PRIVATE KEY-----"},
        {"type": "dns-01"},
        {"type": "tls-alpn-01", "webroot": "/var/www"},
        {"name": "no name"},
    ],
)
def test_what_is_no_answer_is_refused(bad):
    with pytest.raises((Rejected, Unsupported)):
        check(answer(**bad))


async def _asked(port: int, text: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text)
    writer.write_eof()
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_the_open_port_answers_tokens_alone():
    listener, port = HttpListener(), free_port()
    await listener.open(port)
    listener.add(answer())
    path = b"/.well-known/acme-challenge/token-1"
    try:
        found = await _asked(port, b"GET " + path + b" HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        assert found.endswith(f"\r\n\r\ntoken-1.{THUMBPRINT}".encode())
        for other in (
            b"GET / HTTP/1.1",
            b"POST " + path + b" HTTP/1.1",
            b"GET " + path + b"/../x HTTP/1.1",
            b"\xff\x00",
        ):
            assert THUMBPRINT.encode() not in await _asked(port, other + b"\r\n\r\n")
        assert await _asked(port, b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n") == b""
    finally:
        await listener.close()
    with pytest.raises(OSError):  # noqa: PT011 - any refusal will do
        await _asked(port, b"")


async def _shown(port: int, name: str, protocol: str = "acme-tls/1") -> tuple[bytes, str | None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    try:
        found = writer.get_extra_info("ssl_object")
        return found.getpeercert(binary_form=True), found.selected_alpn_protocol()
    finally:
        writer.close()


async def test_a_handshake_shows_the_challenges_certificate_and_no_other_name_gets_one(tmp_path):
    listener, port = AlpnListener(), free_port()
    await listener.open(port)
    named = {"shop.test": "one", "192.0.2.7": "two", "2001:db8::1": "three"}
    answers = {name: answer(token, type="tls-alpn-01", name=name) for name, token in named.items()}
    for each in answers.values():
        listener.add(each)
    try:
        for name, each in answers.items():
            shown, protocol = await _shown(port, server_name(name))
            certificate = x509.load_der_x509_certificate(shown)
            found = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31"))
            assert protocol == "acme-tls/1"
            assert found.critical
            assert found.value.value == b"\x04\x20" + hashlib.sha256(each.key_authorization.encode()).digest()
            (san,) = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert str(san.value) == name
        with pytest.raises(OSError):  # noqa: PT011 - an alert or a reset
            await _shown(port, "other.test")
        listener.remove(answers["shop.test"])
        with pytest.raises(OSError):  # noqa: PT011 - an alert or a reset
            await _shown(port, "shop.test")
    finally:
        await listener.close()


async def test_a_port_that_somebody_has_is_no_fault_of_ours():
    first, second, port = HttpListener(), HttpListener(), free_port()
    await first.open(port)
    try:
        with pytest.raises(CertctlError, match="challenge_webroot"):
            await second.open(port)
    finally:
        await first.close()


def test_each_challenge_has_a_key_of_its_own():
    pems = {challenge_pem("shop.test", f"token-1.{THUMBPRINT}") for _ in range(2)}
    assert len(pems) == 2


def test_the_allow_file_names_folders_and_ports(tmp_path):
    path = tmp_path / "allow.toml"
    path.write_text('[[webroot]]\npath = "/var/www/html"\n[[port]]\nnumber = 80\n')
    path.chmod(0o644)
    allow = load_allow_file(path)
    assert allow.webroot("/var/www/html") == Path("/var/www/html")
    assert allow.port(80) == 80
    for number in (0, 65536):
        path.write_text(f"[[port]]\nnumber = {number}\n")
        with pytest.raises(Misconfigured):
            load_allow_file(path)
