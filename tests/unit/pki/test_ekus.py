"""EKU names and OIDs."""

from __future__ import annotations

import pytest

from certctl.core.errors import Malformed
from certctl.pki.ekus import eku_name, eku_oid


@pytest.mark.parametrize("text", ["serverAuth", "SERVERAUTH", " serverauth ", "1.3.6.1.5.5.7.3.1"])
def test_names_and_oids_are_one(text: str) -> None:
    assert eku_oid(text).dotted_string == "1.3.6.1.5.5.7.3.1"
    assert eku_name(eku_oid(text)) == "serverAuth"


def test_unknown_oids_keep_their_digits() -> None:
    assert eku_name(eku_oid("1.3.6.1.4.1.311.20.2.2")) == "1.3.6.1.4.1.311.20.2.2"


@pytest.mark.parametrize("text", ["", "x", "1", "3.1.2", "1.2..3", "1.02", "1.99.1"])
def test_nonsense_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        eku_oid(text)
