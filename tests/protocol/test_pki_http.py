"""The HTTP side of the public PKI endpoints: methods, types, sizes, caches, ids, faults."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote

import httpx
import pytest
import structlog
from cryptography import x509
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponse, OCSPResponseStatus, load_der_ocsp_response
from hypothesis import given
from hypothesis import strategies as st

from certctl.core.errors import Conflict, Temporary
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.certs import read_certificate
from certctl.protocols.pki import CrlDocument, documents
from certctl.protocols.pki.documents import Document
from certctl.wire import ocsp
from protocol.pki_server import GOOD_SERIALS, Facts, make_facts, serve

TYPE = {"content-type": "application/ocsp-request"}


@pytest.fixture
async def facts() -> Facts:
    return await make_facts(KeyAlgorithm.ECDSA_P256)


@pytest.fixture
async def http(facts: Facts) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(facts) as base, httpx.AsyncClient(base_url=base, trust_env=False, timeout=10) as client:
        yield client


def request_for(facts: Facts, serial: int = GOOD_SERIALS[0], nonce: bytes | None = None) -> bytes:
    ca = read_certificate(facts.ca.issuing.certificate_der)
    hashes = ocsp.issuer_hashes(ocsp.SHA1_OID, ca.subject_der, ca.spki_der)
    return ocsp.write_request((ocsp.CertId(ocsp.SHA1_OID, hashes.name_hash, hashes.key_hash, serial),), nonce)


def answer_in(got: httpx.Response) -> OCSPResponse:
    assert got.status_code == 200
    assert got.headers["content-type"] == "application/ocsp-response"
    return load_der_ocsp_response(got.content)


async def test_crl_headers_and_304(facts: Facts, http: httpx.AsyncClient) -> None:
    got = await http.get("crl/ca-int")
    assert (got.status_code, got.headers["content-type"]) == (200, "application/pkix-crl")
    assert "max-age=3600" in got.headers["cache-control"]
    assert parsedate_to_datetime(got.headers["last-modified"]) < parsedate_to_datetime(got.headers["expires"])
    head = await http.head("crl/ca-int")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(got.content)))


async def test_ca_certificate_304(facts: Facts, http: httpx.AsyncClient) -> None:
    got = await http.get("certs/iss-local")
    assert (got.headers["content-type"], got.content) == ("application/pkix-cert", facts.ca.issuing.certificate_der)
    etag = got.headers["etag"]
    for wanted in (etag, f'"other", W/{etag}', "*"):
        again = await http.get("certs/iss-local", headers={"if-none-match": wanted})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert (await http.get("certs/iss-local", headers={"if-none-match": '"other"'})).status_code == 200
    other = await http.get("certs/ca-root", headers={"if-none-match": etag})
    assert other.status_code == 200


async def test_crl_etag_is_that_of_its_bytes(
    facts: Facts, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = await facts.crl("ca-int")

    async def crl(name: str):
        return document

    monkeypatch.setattr(facts, "crl", crl)
    etag = (await http.get("crl/ca-int")).headers["etag"]
    assert (await http.get("crl/ca-int", headers={"if-none-match": etag})).status_code == 304
    document = await Facts.crl(facts, "ca-root")
    assert (await http.get("crl/ca-int", headers={"if-none-match": etag})).status_code == 200


@pytest.fixture
async def fixed(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> CrlDocument:
    """One CRL, the same however often it is asked for."""
    document = await facts.crl("ca-int")

    async def crl(name: str):
        return document

    monkeypatch.setattr(facts, "crl", crl)
    return document


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-", 10, None),
        ("BYTES = 3-7", 3, 8),
        ("bytes=-5", -5, None),
        ("bytes=-9999999999", 0, None),
        ("bytes=2-9999999999", 2, None),
    ],
)
async def test_a_range_of_a_crl(fixed: CrlDocument, http: httpx.AsyncClient, asked: str, first: int, end: int | None):
    got = await http.get("crl/ca-int", headers={"range": asked})
    part = fixed.der[first:end]
    begin = fixed.der.index(part)
    assert (got.status_code, got.content) == (206, part)
    assert got.headers["content-range"] == f"bytes {begin}-{begin + len(part) - 1}/{len(fixed.der)}"
    assert (got.headers["etag"], got.headers["content-type"]) == (fixed.etag, "application/pkix-crl")


@pytest.mark.parametrize(
    "asked", ["bytes=5-3", "bytes=-", "bytes=0-1,3-4", "lines=1-2", "bytes=x-", "bytes=0-99999999999"]
)
async def test_a_range_that_is_none_is_passed_over(fixed: CrlDocument, http: httpx.AsyncClient, asked: str):
    got = await http.get("crl/ca-int", headers={"range": asked})
    assert (got.status_code, got.content, got.headers["accept-ranges"]) == (200, fixed.der, "bytes")


@pytest.mark.parametrize("asked", ["bytes=9999999-", "bytes=-0"])
async def test_a_range_beyond_the_end(fixed: CrlDocument, http: httpx.AsyncClient, asked: str):
    got = await http.get("crl/ca-int", headers={"range": asked})
    assert (got.status_code, got.content) == (416, b"")
    assert got.headers["content-range"] == f"bytes */{len(fixed.der)}"


async def test_a_download_goes_on_only_with_the_same_crl(fixed: CrlDocument, http: httpx.AsyncClient):
    modified = (await http.get("crl/ca-int")).headers["last-modified"]
    for same in (fixed.etag, modified):
        got = await http.get("crl/ca-int", headers={"range": "bytes=7-", "if-range": same})
        assert (got.status_code, got.content) == (206, fixed.der[7:])
    for other in ('"other"', f"W/{fixed.etag}", "Thu, 01 Jan 1970 00:00:00 GMT", "nonsense"):
        got = await http.get("crl/ca-int", headers={"range": "bytes=7-", "if-range": other})
        assert (got.status_code, got.content) == (200, fixed.der)


async def test_a_crl_that_was_not_modified(fixed: CrlDocument, http: httpx.AsyncClient):
    modified = (await http.get("crl/ca-int")).headers["last-modified"]
    for headers, status in (
        ({"if-modified-since": modified}, 304),
        ({"if-modified-since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 200),
        ({"if-modified-since": "yesterday"}, 200),
        ({"if-modified-since": modified, "if-none-match": '"other"'}, 200),
        ({"range": "bytes=0-1", "if-none-match": fixed.etag}, 304),
    ):
        assert (await http.get("crl/ca-int", headers=headers)).status_code == status, headers
    head = await http.head("crl/ca-int", headers={"range": "bytes=0-1"})
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(fixed.der)))


@given(headers=st.dictionaries(st.sampled_from(["range", "if-range", "if-none-match", "if-modified-since"]), st.text()))
def test_no_header_takes_a_document_apart(headers: dict[str, str]):
    whole = Document(bytes(range(100)), "application/pkix-crl", '"tag"', datetime(2026, 11, 27, tzinfo=UTC))
    reply = documents.serve("GET", headers, whole)
    assert reply.status in {200, 206, 304, 416}
    assert reply.body in whole.body


@pytest.mark.parametrize(
    ("path", "part"), [("1", (1, False)), ("4/delta", (4, True)), ("delta", (0, True)), ("1024", (1024, False))]
)
async def test_parts_of_a_crl_have_addresses(facts: Facts, http: httpx.AsyncClient, path: str, part: tuple[int, bool]):
    got = await http.get(f"crl/ca-int/{path}")
    assert facts.parts == [("ca-int", *part)]
    assert got.status_code == (200 if part[0] < 5 else 404)


async def test_a_long_body_is_sent_in_parts_and_whole(
    facts: Facts, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("certctl.protocols.pki._PART", 7)
    got = await http.get("crl/ca-int")
    assert len(got.content) > 70
    assert x509.load_der_x509_crl(got.content).next_update_utc is not None
    assert got.headers["content-length"] == str(len(got.content))


@pytest.mark.parametrize(
    "path",
    [
        "crl/nobody",
        "certs/nobody",
        "ocsp/nobody/ff",
        "crl",
        "crl/",
        "crl/ca-int/more",
        "crl/ca-int/0",
        "crl/ca-int/01",
        "crl/ca-int/1/",
        "crl/ca-int/1delta",
        "crl/ca-int/delta/1",
        "crl/ca-int/10000",
        "crl/ca-int/-1",
        "certs/ca-int/",
        "ocsp/ca-int/",
        "other/ca-int",
        "",
        "/",
        "/metrics",
        "/.well-known/pkix/crl/ca-int",
    ],
)
async def test_there_is_nothing_else(http: httpx.AsyncClient, path: str) -> None:
    url = path if not path.startswith("/") else str(http.base_url.copy_with(path=path))
    got = await http.get(url)
    assert got.status_code == 404, got.text
    assert got.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("name", ["a%20b", "%2e%2e", "a%00b", "x" * 129, "caf%C3%A9"])
async def test_ids_of_wrong_form(http: httpx.AsyncClient, name: str) -> None:
    assert (await http.get(f"crl/{name}")).status_code == 400


async def test_an_unknown_responder_is_not_found_by_post_too(facts: Facts, http: httpx.AsyncClient) -> None:
    assert (await http.post("ocsp/nobody", content=request_for(facts), headers=TYPE)).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "crl/ca-int", "GET, HEAD"),
        ("DELETE", "certs/ca-int", "GET, HEAD"),
        ("GET", "ocsp/ca-int", "POST"),
        ("PUT", "ocsp/ca-int", "POST"),
        ("POST", "ocsp/ca-int/ff", "GET, HEAD"),
    ],
)
async def test_methods(http: httpx.AsyncClient, method: str, path: str, allow: str) -> None:
    got = await http.request(method, path)
    assert (got.status_code, got.headers["allow"]) == (405, allow)


@pytest.mark.parametrize("kind", ["application/json", "", "application/ocsp-response"])
async def test_other_content_types(facts: Facts, http: httpx.AsyncClient, kind: str) -> None:
    got = await http.post("ocsp/ca-int", content=request_for(facts), headers={"content-type": kind})
    assert got.status_code == 415


async def test_content_type_with_parameters(facts: Facts, http: httpx.AsyncClient) -> None:
    headers = {"content-type": "Application/OCSP-Request; charset=binary"}
    got = await http.post("ocsp/ca-int", content=request_for(facts), headers=headers)
    assert answer_in(got).certificate_status is OCSPCertStatus.GOOD


async def test_bodies_over_64_kib(http: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield bytes(8 * 1024)

    assert (await http.post("ocsp/ca-int", content=bytes(64 * 1024 + 1), headers=TYPE)).status_code == 413
    assert (await http.post("ocsp/ca-int", content=chunks(), headers=TYPE)).status_code == 413
    exact = await http.post("ocsp/ca-int", content=bytes(64 * 1024), headers=TYPE)
    assert answer_in(exact).response_status is OCSPResponseStatus.MALFORMED_REQUEST


@pytest.mark.parametrize("body", [b"", b"\x30\x80", b"hello", bytes(40)])
async def test_malformed_requests(http: httpx.AsyncClient, body: bytes) -> None:
    by_post = await http.post("ocsp/ca-int", content=body, headers=TYPE)
    assert answer_in(by_post).response_status is OCSPResponseStatus.MALFORMED_REQUEST
    assert by_post.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("text", ["M", "MEIw***", "zz", "MEIw", "MA==", "M%FF", "f" * 129])
async def test_malformed_paths(http: httpx.AsyncClient, text: str) -> None:
    got = await http.get(f"ocsp/ca-int/{text}")
    assert answer_in(got).response_status is OCSPResponseStatus.MALFORMED_REQUEST
    assert got.headers["cache-control"] == "no-store"


async def test_base64_with_slashes_plus_and_no_padding(facts: Facts, http: httpx.AsyncClient) -> None:
    # fbefbe is ++++ in base64 and ffffff is ////, each in one of the three alignments.
    nonces = [bytes(shift) + b"\xfb\xef\xbe" * 3 + b"\xff" * 6 for shift in range(3)]
    texts = [base64.b64encode(request_for(facts, nonce=nonce)).decode() for nonce in nonces]
    assert set("/+=") <= set("".join(texts))
    for text in texts:
        for path in (quote(text, safe=""), quote(text, safe="/"), text, text.rstrip("=")):
            found = answer_in(await http.get(f"ocsp/ca-int/{path}"))
            assert found.certificate_status is OCSPCertStatus.GOOD
            assert found.extensions


async def test_caching_of_ocsp(facts: Facts, http: httpx.AsyncClient) -> None:
    plain = quote(base64.b64encode(request_for(facts)), safe="")
    got = await http.get(f"ocsp/ca-int/{plain}")
    age = int(got.headers["cache-control"].partition("max-age=")[2].partition(",")[0])
    assert 1700 < age <= 1800
    assert got.headers["etag"]
    by_post = await http.post("ocsp/ca-int", content=request_for(facts, nonce=b"n"), headers=TYPE)
    assert by_post.headers["cache-control"] == "no-store"
    assert "etag" not in by_post.headers


async def test_faults_show_nothing_and_are_logged(facts: Facts, http: httpx.AsyncClient) -> None:
    facts.fault = RuntimeError("the secret inside")
    with structlog.testing.capture_logs() as logs:
        broken = await http.post("ocsp/ca-int", content=request_for(facts), headers=TYPE)
        assert answer_in(broken).response_status is OCSPResponseStatus.INTERNAL_ERROR
        for path in ("crl/ca-int", "certs/ca-int"):
            got = await http.get(path)
            assert (got.status_code, got.text) == (500, "internal error\n")
    assert len(logs) == 3
    assert {entry["log_level"] for entry in logs} == {"error"}

    facts.fault = Temporary("the key store is away")
    later = await http.post("ocsp/ca-int", content=request_for(facts), headers=TYPE)
    assert answer_in(later).response_status is OCSPResponseStatus.TRY_LATER
    assert (await http.get("crl/ca-int")).status_code == 503
    facts.fault = Conflict("being published")
    assert (await http.get("crl/ca-int")).status_code == 503

    facts.fault = None
    good = await http.post("ocsp/ca-int", content=request_for(facts), headers=TYPE)
    assert answer_in(good).certificate_status is OCSPCertStatus.GOOD
