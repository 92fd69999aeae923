"""What one process remembers so that strangers who use up an address's rate shut out no account behind it.

Keys that have proven themselves from there lately: what they sign is judged by its account's own rate, before anything
is looked up. And what the directories said last: to whoever asks too much it is said from memory, which costs no more
than to refuse. Nothing here lets anybody in: account, key and nonce are looked up for every call.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Any

from certctl.doors.limits import neighbourhood
from certctl.wire.jws import Jwk

_MOST_KEYS = 20_000
_MOST_DIRECTORIES = 1000
_FRESH = timedelta(minutes=1)
_MOMENT = timedelta(seconds=1)


class Crowd:
    """The memory of one process."""

    def __init__(self) -> None:
        self._keys: OrderedDict[tuple[str, str], Jwk] = OrderedDict()
        self._there: dict[str, datetime] = {}
        self._directories: dict[str, tuple[datetime, dict[str, Any]]] = {}

    def key_of(self, address: str, account_id: str) -> Jwk | None:
        """The key by which this account proved itself last from there."""
        return self._keys.get((neighbourhood(address), account_id))

    def proven(self, address: str, account_id: str, key: Jwk) -> None:
        """This account has just proven itself from there."""
        place = (neighbourhood(address), account_id)
        self._keys[place] = key
        self._keys.move_to_end(place)
        if len(self._keys) > _MOST_KEYS:
            self._keys.popitem(last=False)

    def is_there(self, profile_id: str, now: datetime) -> None:
        """This profile was found just now."""
        if len(self._there) >= _MOST_DIRECTORIES:
            self._there.clear()
        self._there[profile_id] = now

    def was_there(self, profile_id: str, now: datetime) -> bool:
        """Whether a profile was found within the last second."""
        at = self._there.get(profile_id)
        return at is not None and timedelta(0) <= now - at < _MOMENT

    def said(self, profile_id: str, meta: dict[str, Any], now: datetime) -> None:
        """What a directory's meta was just now."""
        if len(self._directories) >= _MOST_DIRECTORIES:
            self._directories.clear()
        self._directories[profile_id] = (now, meta)

    def last_said(self, profile_id: str, now: datetime) -> dict[str, Any] | None:
        """What a directory's meta was within the last minute."""
        at, meta = self._directories.get(profile_id, (now, None))
        return meta if meta is not None and now - at <= _FRESH else None
