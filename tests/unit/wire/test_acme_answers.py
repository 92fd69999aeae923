"""What a CA answers is read strictly and bounded; what we sign, our own server's reader and certbot's library accept."""

from __future__ import annotations

import contextlib
import json

import josepy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.core.errors import TrustError
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.keys import generate_private_key
from certctl.wire import acme_answers, jws
from certctl.wire.acme_answers import AuthorizationAnswer, Directory, OrderAnswer, RenewalInfo

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
KEYS = [KeyAlgorithm.ECDSA_P256, KeyAlgorithm.ECDSA_P384, KeyAlgorithm.ED25519, KeyAlgorithm.RSA_2048]


@pytest.mark.parametrize("algorithm", KEYS)
def test_what_we_sign_is_read_by_our_server_and_by_josepy(algorithm):
    key = generate_private_key(algorithm)
    message = jws.sign(key, {"nonce": "n", "url": "https://ca.test/x"}, b'{"a":1}')
    told = jws.read_jws(message)
    assert told.header["nonce"] == "n"
    assert told.payload == b'{"a":1}'
    assert jws.verify(told, jws.jwk_of(key))
    assert not jws.verify(told, jws.jwk_of(generate_private_key(algorithm)))
    if algorithm is KeyAlgorithm.ECDSA_P384 or algorithm is KeyAlgorithm.ED25519:
        return  # the oracle knows neither
    oracle = josepy.JWK.from_json(json.loads(jws.jwk_of(key).canonical))
    assert jws.encode(oracle.thumbprint()) == jws.jwk_of(key).thumbprint
    flat = josepy.JWS.from_json(json.loads(message))
    assert flat.verify(oracle)


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_key_is_the_same_whether_written_or_read(algorithm):
    key = jws.jwk_of(generate_private_key(algorithm))
    assert jws.read_jwk(json.loads(key.canonical)).canonical == key.canonical


def test_a_binding_is_what_our_server_verifies():
    made = jws.sign_mac(b"s" * 32, {"kid": "k", "url": "https://ca.test/new"}, b"{}")
    assert jws.verify_mac(jws.read_jws(made), b"s" * 32)
    assert not jws.verify_mac(jws.read_jws(made), b"t" * 32)


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_answer_is_read_or_refused(body):
    for kind in (Directory, OrderAnswer, AuthorizationAnswer, RenewalInfo):
        try:
            acme_answers.read(body, kind, "answer")
        except TrustError as error:
            assert "answer" in error.message
    with contextlib.suppress(TrustError):
        told = acme_answers.read_renewal_info(body)
        assert told.start < told.end


@given(st.binary(max_size=300) | JSON)
def test_any_problem_is_shown_in_one_bounded_line(data):
    told = acme_answers.read_problem(data, 500)
    for text in (told.kind, told.detail, told.instance, *(part for one in told.identifiers for part in one)):
        assert len(text) <= 400
        assert text.isprintable()


@given(st.text(max_size=200) | st.sampled_from(["https://ca.test/a", "https://ca.test:14000/a?b=c"]))
def test_only_plain_https_addresses_are_asked(url):
    try:
        checked = acme_answers.check_url(url)
    except TrustError:
        return
    assert checked.startswith("https://")


@pytest.mark.parametrize(
    "url",
    [
        "http://ca.test/",
        "https://user:pw@ca.test/",
        "https:///x",
        "https://ca.test:99999/",
        "file:///etc/passwd",
        "gopher://ca.test/",
        "https://ca.test/\r\nX: y",
        "https://ca.test/" + "a" * 2000,
    ],
)
def test_other_addresses_are_refused(url):
    with pytest.raises(TrustError):
        acme_answers.check_url(url)


@given(st.text(max_size=500))
def test_any_link_header_is_read(header):
    acme_answers.links(header, "alternate")


def test_links_by_relation():
    header = '<https://a/1>;rel="alternate", <https://a/2>; rel="index up", </3>; title="x"; rel=alternate'
    assert acme_answers.links(header, "alternate") == ("https://a/1", "/3")
    assert acme_answers.links(header, "up") == ("https://a/2",)


@pytest.mark.parametrize(
    "window",
    [
        {"start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"},
        {"start": "2026-01-02T00:00:00Z", "end": "2026-01-02T00:00:00Z"},
        {"start": "2026-01-01T00:00:00", "end": "2026-01-02T00:00:00"},
        {"start": "soon", "end": "later"},
    ],
)
def test_a_window_without_length_is_none(window):
    with pytest.raises(TrustError):
        acme_answers.read_renewal_info(json.dumps({"suggestedWindow": window}).encode())
