"""Trees, proofs and heads, against the definitions of RFC 9162 and its published test data."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from certctl.pki import merkle
from certctl.pki.checkpoint import Checkpoint, open_checkpoint, read_verifier_key, signed, verifier_key

# the entries and roots that implementations of RFC 6962 have tested with from the beginning
ENTRIES = [bytes.fromhex(one) for one in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
ENTRIES.append(bytes.fromhex("606162636465666768696a6b6c6d6e6f"))
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def by_definition(leaves: list[bytes]) -> bytes:
    """MTH, word for word (RFC 9162 2.1.1)."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\1" + by_definition(leaves[:k]) + by_definition(leaves[k:])).digest()


def hashes(number: int) -> list[bytes]:
    return [merkle.leaf_hash(str(each).encode()) for each in range(number)]


def of(leaves: list[bytes], ranges: list[merkle.Range]) -> list[bytes]:
    return [by_definition(leaves[start:end]) for start, end in ranges]


@pytest.mark.parametrize("size", ROOTS)
def test_the_published_roots(size):
    assert merkle.root([merkle.leaf_hash(one) for one in ENTRIES[:size]]).hex() == ROOTS[size]


@given(st.integers(0, 700))
def test_a_root_is_what_the_definition_says(size):
    leaves = hashes(size)
    assert merkle.root(leaves) == by_definition(leaves)
    parts = merkle.complete_parts(0, size)
    assert merkle.join([merkle.root(leaves[start:end]) for start, end in parts]) == by_definition(leaves)
    assert all((end - start).bit_count() == 1 and start % (end - start) == 0 for start, end in parts)


@given(st.data())
def test_an_inclusion_is_proved_and_nothing_else_is(data):
    size = data.draw(st.integers(1, 130))
    index = data.draw(st.integers(0, size - 1))
    leaves = hashes(size)
    whole, path = by_definition(leaves), of(leaves, merkle.inclusion(index, size))
    assert len(path) <= 8
    assert merkle.proves_inclusion(leaves[index], index, size, path, whole)
    other = data.draw(st.integers(0, size + 3).filter(lambda at: at != index))
    assert not merkle.proves_inclusion(leaves[index], other, size, path, whole)
    assert not merkle.proves_inclusion(merkle.leaf_hash(b"forged"), index, size, path, whole)
    assert not merkle.proves_inclusion(leaves[index], index, size, [*path, whole], whole)
    if path:
        assert not merkle.proves_inclusion(leaves[index], index, size, path[:-1], whole)


@given(st.data())
def test_a_tree_that_grew_is_proved_and_one_that_was_rewritten_is_not(data):
    second = data.draw(st.integers(1, 130))
    first = data.draw(st.integers(1, second))
    leaves = hashes(second)
    old, new = by_definition(leaves[:first]), by_definition(leaves)
    proof = of(leaves, merkle.consistency(first, second))
    assert merkle.proves_consistency(first, second, old, new, proof)
    rewritten = [merkle.leaf_hash(b"forged"), *leaves[1:]]
    assert not merkle.proves_consistency(first, second, old, by_definition(rewritten), proof)
    forged = of(rewritten, merkle.consistency(first, second))
    assert not merkle.proves_consistency(first, second, old, by_definition(rewritten), forged)
    assert not merkle.proves_consistency(first, second, old, new, [*proof, new])


@given(st.data())
def test_a_part_of_a_log_and_what_lies_beside_it_make_the_root(data):
    size = data.draw(st.integers(0, 130))
    start = data.draw(st.integers(0, size))
    end = data.draw(st.integers(start, size))
    leaves = hashes(size)
    beside = of(leaves, merkle.outside(start, end, size))
    assert merkle.root_around(leaves[start:end], start, size, beside) == by_definition(leaves)
    with pytest.raises(ValueError):
        merkle.root_around(leaves[start:end], start, size, [*beside, merkle.EMPTY])
    if beside:
        with pytest.raises(ValueError):
            merkle.root_around(leaves[start:end], start, size, beside[:-1])


def test_what_is_no_question_is_refused():
    for bad in (lambda: merkle.inclusion(3, 3), lambda: merkle.consistency(0, 3), lambda: merkle.consistency(4, 3)):
        with pytest.raises(ValueError):
            bad()


KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
HEAD = Checkpoint("certctl/audit/test", 42, bytes(range(32)), datetime(2026, 11, 26, 13, 40, 2, tzinfo=UTC))
VERIFIER = verifier_key(HEAD.origin, PUBLIC)
NOTE = signed(HEAD, PUBLIC, KEY.sign(HEAD.text().encode()))


def test_a_head_is_read_by_whoever_has_its_key():
    assert read_verifier_key(VERIFIER) == (HEAD.origin, PUBLIC)
    assert open_checkpoint(NOTE, VERIFIER) == HEAD
    witnessed = NOTE + f"— somebody.example/witness {base64.b64encode(b'1234' + bytes(64)).decode()}\n"
    assert open_checkpoint(witnessed, VERIFIER) == HEAD


@pytest.mark.parametrize(
    "bad",
    [
        NOTE.replace("\n42\n", "\n41\n"),
        NOTE.replace("13:40:02", "13:40:03"),
        NOTE.replace("certctl/audit/test\n42", "certctl/audit/other\n42"),
        NOTE.partition("\n\n")[0] + "\n\n",
        NOTE.partition("\n\n")[0],
        NOTE.replace("— ", "- "),
        "",
        "\n\n",
        "x" * 10_000,
    ],
)
def test_a_head_that_was_touched_is_refused(bad):
    with pytest.raises(ValueError):
        open_checkpoint(bad, VERIFIER)


@settings(max_examples=300)
@given(st.one_of(st.text(), st.tuples(st.integers(0, len(NOTE) - 1), st.characters())))
def test_any_other_text_is_refused_in_words(change):
    bad = change if isinstance(change, str) else NOTE[: change[0]] + change[1] + NOTE[change[0] + 1 :]
    if bad == NOTE:
        return
    with pytest.raises(ValueError):
        open_checkpoint(bad, VERIFIER)


@given(st.text())
def test_any_other_key_is_refused_in_words(text):
    with pytest.raises(ValueError):
        read_verifier_key(text)
