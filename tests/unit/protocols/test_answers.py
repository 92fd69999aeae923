"""Kept OCSP answers against a log of revocations in memory: whatever comes between what, no look leaves an old truth behind."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certctl import ledger
from certctl.authority.ocsp import SerialStatus
from certctl.core.errors import Temporary
from certctl.protocols.pki import answers as module
from certctl.protocols.pki.answers import Kept, KeptAnswers, KeptStatuses, Reply, RevocationWatch
from certctl.store.wake import REVOKED_CHANNEL, Wakeups

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SERIALS = ("a", "b")


class Log:
    """A log as PostgreSQL shows it: transactions begin with a number, and are seen once they have committed."""

    def __init__(self) -> None:
        self.begun = 1
        self.open: dict[int, str] = {}
        self.committed: list[tuple[int, str]] = []
        self.fault = False

    @contextlib.asynccontextmanager
    async def read(self):
        yield None

    async def since(self, _tx, _scope, horizon):
        if self.fault:
            raise Temporary("the database is away")
        now = min(self.open, default=self.begun)
        seen = [] if horizon is None else [serial for number, serial in self.committed if number >= horizon]
        await Pause()
        return now, frozenset(seen)

    def begin(self, serial: str) -> None:
        self.open[self.begun] = serial
        self.begun += 1

    def commit(self) -> None:
        """The youngest first: the others have run long."""
        if self.open:
            number = max(self.open)
            self.committed.append((number, self.open.pop(number)))

    def is_revoked(self, serial: str) -> bool:
        return any(serial == one for _, one in self.committed)


class Pause:
    def __await__(self):
        yield


def step(signing) -> bool | None:
    """Whether the answer says revoked, or None while it waits for its facts."""
    try:
        signing.send(None)
    except StopIteration as end:
        (status,) = end.value.values()
        return status.revoked_at is not None
    return None


class House:
    def __init__(self) -> None:
        self.log, self.at = Log(), 0.0
        self.wakeups = Wakeups()
        ctx = SimpleNamespace(database=self.log, scope=None)
        self.watch = RevocationWatch(ctx, self.wakeups, lambda: self.at)
        self.answers = KeptAnswers(self.watch)
        self.statuses = KeptStatuses(self.watch)

    def keep(self, serial: str, *, ticket: int | None = None, revoked: bool | None = None) -> None:
        told = self.log.is_revoked(serial) if revoked is None else revoked
        reply = Reply(200, "", b"revoked" if told else b"good")
        kept = Kept(serial, NOW + timedelta(minutes=5), reply, ())
        self.answers.put(self.answers.ticket() if ticket is None else ticket, "ca", serial.encode(), kept)

    def get(self, serial: str) -> bytes | None:
        kept = self.answers.get("ca", serial.encode(), NOW)
        return kept.reply.body if kept else None

    def sign(self, serial: str):
        """One answer being signed anew: the facts are read, and told a step later."""
        return self.statuses.read("ca", [int(serial, 16)], self._facts)

    async def _facts(self, serials):
        revoked = SerialStatus.revoked(NOW, "superseded")
        read = {one: revoked if self.log.is_revoked(f"{one:x}") else SerialStatus.good() for one in serials}
        await Pause()
        return read

    def begin_look(self):
        """A look that has read the log and has not told of it yet; nothing in it really waits: no loop is needed."""
        looking = self.watch.look()
        looking.send(None)
        return looking

    def look(self) -> None:
        end(self.begin_look())


def end(looking) -> None:
    with pytest.raises(StopIteration):
        looking.send(None)


@pytest.fixture
def house(monkeypatch) -> House:
    made = House()
    monkeypatch.setattr(ledger, "revoked_since", made.log.since)
    return made


def test_an_answer_is_given_again_until_its_serial_is_seen_revoked(house):
    house.look()
    for serial in SERIALS:
        house.keep(serial)
    assert [house.get(one) for one in SERIALS] == [b"good", b"good"]
    house.log.begin("a")
    house.log.commit()
    house.look()
    assert [house.get(one) for one in SERIALS] == [None, b"good"], "another's stays"


def test_a_hint_puts_everything_aside_until_the_look(house):
    house.look()
    house.keep("a")
    house.wakeups.tell((REVOKED_CHANNEL,))
    assert house.get("a") is None
    house.look()
    assert house.get("a") == b"good"


def test_a_hint_waits_for_a_look_that_began_after_it_and_has_ended(house):
    house.look()
    house.keep("a")
    earlier = house.begin_look()
    house.wakeups.tell((REVOKED_CHANNEL,))
    end(earlier)
    assert house.get("a") is None, "that look had read before the hint"
    later = house.begin_look()
    assert house.get("a") is None, "this one has not told yet what it read"
    end(later)
    assert house.get("a") == b"good"


def test_in_a_storm_hints_space_the_looks_and_the_clock_bounds_what_is_old(house):
    for _ in range(module._STORM):
        house.wakeups.tell((REVOKED_CHANNEL,))
    house.look()
    house.keep("a")
    house.wakeups.tell((REVOKED_CHANNEL,))
    assert house.get("a") == b"good"
    house.at += module._TRUSTED_SECONDS
    assert house.get("a") is None, "without a look nothing is used"


def test_without_a_database_nothing_kept_is_used(house):
    house.look()
    house.keep("a")
    house.log.fault = True
    with pytest.raises(Temporary):
        house.watch.look().send(None)
    assert house.get("a") is None
    house.log.fault = False
    house.look()
    assert house.get("a") == b"good"


def test_facts_read_before_a_look_are_not_kept_after_it(house):
    house.look()
    ticket = house.answers.ticket()
    house.log.begin("a")
    house.log.commit()
    house.look()
    house.keep("a", ticket=ticket, revoked=False)
    assert house.get("a") is None


def test_facts_read_before_the_first_look_are_not_kept_after_it(house):
    """The first look is told of nothing that was committed before it."""
    ticket = house.answers.ticket()
    house.log.begin("a")
    house.log.commit()
    house.look()
    house.keep("a", ticket=ticket, revoked=False)
    assert house.get("a") is None


def test_a_log_that_begins_anew_keeps_nothing(house):
    house.log.begun = 1000
    house.look()
    house.keep("a")
    house.log.begun = 7
    house.look()
    assert house.get("a") is None


def test_the_eldest_makes_room_and_an_answer_ends(house, monkeypatch):
    monkeypatch.setattr(module, "MOST_KEPT", 2)
    house.look()
    for serial in ("01", "02", "03"):
        house.keep(serial)
    assert [house.get(one) for one in ("01", "02", "03")] == [None, b"good", b"good"]
    assert house.answers.get("ca", b"02", NOW + timedelta(minutes=5)) is None
    assert house.answers.get("other-ca", b"02", NOW) is None
    house.keep("03")
    assert house.get("02") == b"good", "one kept anew takes no other's place"


def test_what_is_signed_anew_asks_for_its_facts_once_until_they_change(house):
    house.look()
    first = house.sign("a")
    assert step(first) is None
    assert step(first) is False
    assert step(house.sign("a")) is False, "kept"
    house.log.begin("a")
    house.log.commit()
    house.look()
    again = house.sign("a")
    assert step(again) is None
    assert step(again) is True
    assert step(house.sign("a")) is True


async def test_what_was_never_issued_is_asked_for_each_time(house):
    asked = []

    async def nobody(serials):
        asked.append(serials)
        return {}

    house.look()
    for _ in range(2):
        assert await house.statuses.read("ca", [7], nobody) == {}
    assert asked == [[7], [7]]


MOVES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(("begin", "keep", "read", "store", "sign", "signed")), st.sampled_from(SERIALS)),
        st.tuples(st.sampled_from(("commit", "look", "begin_look", "hint")), st.just("")),
    ),
    min_size=25,
    max_size=80,
)


@settings(max_examples=300)
@given(MOVES)
def test_whatever_comes_between_a_look_leaves_no_old_truth(moves):
    """`read` and `store` are one answer on its way, `sign` and `signed` another: much happens between facts and keeping."""
    made = House()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ledger, "revoked_since", made.log.since)
        under_way: dict[str, tuple[int, bool]] = {}
        signing: dict[str, Any] = {}
        known: set[str] = set()
        looking = None
        for what, serial in moves:
            if what == "begin":
                made.log.begin(serial)
            elif what == "commit":
                made.log.commit()
            elif what == "begin_look":
                looking = looking or made.begin_look()
            elif what == "look":
                if looking is not None:  # a process has one look at a time
                    end(looking)
                    looking = None
                made.look()
                known = {one for one in SERIALS if made.log.is_revoked(one)}
            elif what == "hint":
                made.wakeups.tell((REVOKED_CHANNEL,))
                if not made.watch._is_storm(made.at):
                    known |= {one for one in SERIALS if made.log.is_revoked(one)}
            elif what == "keep":
                made.keep(serial)
            elif what == "read":
                under_way[serial] = (made.answers.ticket(), made.log.is_revoked(serial))
            elif what == "sign":
                asked = made.sign(serial)
                if (told := step(asked)) is None:
                    signing[serial] = asked
                else:
                    assert told or serial not in known, f"{serial} was seen revoked and is signed as good"
            elif what == "signed":
                if serial in signing:
                    step(signing.pop(serial))
            elif serial in under_way:
                ticket, revoked = under_way.pop(serial)
                made.keep(serial, ticket=ticket, revoked=revoked)
            for one in known:
                assert made.get(one) in {None, b"revoked"}, f"{one} was seen revoked and is called good"
