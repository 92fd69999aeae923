"""A secret's value leaves it by `reveal` alone."""

from __future__ import annotations

import copy
import json
import logging
import pickle

import msgspec
import pytest

from certctl.core.secret import Secret

VALUE = "hunter2-ünïq"


def test_no_rendering_shows_it() -> None:
    secret = Secret(VALUE)
    rendered = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r}",
        " ".join(map(str, [secret])),
        f"{[secret]} { {'k': secret} }",
        repr(secret.__class__),
    ]
    assert all(VALUE not in text for text in rendered)
    assert "[redacted]" in str(secret)
    record = logging.LogRecord("x", logging.INFO, "f", 1, "token %s", (secret,), None)
    assert VALUE not in record.getMessage()


def test_no_encoder_takes_it() -> None:
    secret = Secret(VALUE)
    for encode in (json.dumps, msgspec.json.encode, msgspec.to_builtins, pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError) as caught:
            encode(secret)
        assert VALUE not in str(caught.value)
    assert VALUE not in json.dumps({"k": secret}, default=str)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps([secret], protocol)


def test_it_has_no_attributes_to_walk() -> None:
    with pytest.raises(TypeError):
        vars(Secret(VALUE))


def test_it_compares_hashes_and_reveals() -> None:
    assert Secret(VALUE) == Secret(VALUE)
    assert Secret(VALUE) != Secret("other")
    assert Secret(VALUE) != VALUE
    assert len({Secret(VALUE), Secret(VALUE)}) == 1
    assert Secret("\udcff") == Secret("\udcff")
    assert Secret(VALUE).reveal() == VALUE
    assert not Secret("")
    assert Secret("x")
