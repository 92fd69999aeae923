"""What must survive a crash: waiting results and begun deployments."""

from __future__ import annotations

import asyncio
import errno
import os
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.agent import durable
from certctl.agent import loop as loop_module
from certctl.agent import outbox as outbox_module
from certctl.agent.backoff import Backoff
from certctl.agent.intents import DeployIntent, Intents
from certctl.agent.loop import Loop, Pace
from certctl.agent.outbox import Entry, Outbox, read_entries
from certctl.core.errors import Gone, Malformed, Misconfigured, Rejected, Temporary
from certctl.wire.agent import CsrReport, Heartbeat, HeartbeatReply, StatusReport, VerifyReport, Work, WorkItem


def test_order_holds_per_job_and_over_restarts(tmp_path: Path) -> None:
    box = Outbox(tmp_path)
    first = box.add("job-1", "step-1", CsrReport(csr_pem="x", step_id="step-1", fence=3))
    box.add("job-2", "step-2", StatusReport(status="Failed", fence=1))
    third = box.add("job-1", "step-3", VerifyReport(target_id="t", expected_fingerprint="ab", fence=4))
    again = Outbox(tmp_path)
    assert len(again) == 3
    assert again.jobs() == ("job-1", "job-2")
    assert again.first_of("job-1") == first
    again.remove(first)
    assert again.first_of("job-1") == third
    assert again.holds("step-3", 4)
    assert not again.holds("step-3", 5)
    newest = again.add("job-1", "step-4", StatusReport(status="Completed"))
    assert newest.sequence == 4
    assert [entry.step_id for entry in read_entries(tmp_path)] == ["step-2", "step-3", "step-4"]
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "outbox").iterdir()} == {0o600}


@pytest.mark.parametrize("text", ["", "{", "null", '{"sequence": "x"}', "[]", "\x00\xff"])
def test_corrupt_entries_are_set_aside(tmp_path: Path, text: str) -> None:
    Outbox(tmp_path).add("job-1", "step-1", StatusReport(status="Failed"))
    (tmp_path / "outbox" / "000000000009-step-9.json").write_text(text)
    renamed = (tmp_path / "outbox" / "000000000001-step-1.json").read_bytes()
    (tmp_path / "outbox" / "000000000008-step-8.json").write_bytes(renamed)
    box = Outbox(tmp_path)
    assert len(box) == 1
    assert len(list((tmp_path / "outbox").glob("*.corrupt-*"))) == 2
    assert len(Outbox(tmp_path)) == 1


def test_full_outbox_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "MOST_ENTRIES", 2)
    box = Outbox(tmp_path)
    for number in range(2):
        assert not box.full
        box.add("job-1", f"step-{number}", StatusReport(status="Failed"))
    assert box.full


def test_ids_are_never_paths(tmp_path: Path) -> None:
    with pytest.raises(Malformed):
        Outbox(tmp_path).add("job-1", "../step", StatusReport(status="Failed"))
    intent = DeployIntent(
        plan_id="../x", certificate_id="mc", key_job_id="j", target_id="t", target_type="NGINX", target_config={}
    )
    with pytest.raises(Malformed):
        Intents(tmp_path).begin(intent)


def test_intents_open_and_settle(tmp_path: Path) -> None:
    intent = DeployIntent(
        plan_id="dep-1", certificate_id="mc", key_job_id="j", target_id="t", target_type="NGINX", target_config={"a": 1}
    )
    Intents(tmp_path).begin(intent)
    (tmp_path / "deploys" / "dep-2.json").write_text("{")
    intents = Intents(tmp_path)
    assert intents.open() == (intent,)
    intents.settle("dep-1")
    intents.settle("dep-1")
    assert intents.open() == ()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_a_disk_in_trouble_is_temporary_and_nothing_counts_as_kept(number, tmp_path, monkeypatch):
    outbox = Outbox(tmp_path)

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(durable.os, "fsync", fail)
        with pytest.raises(Temporary, match=os.strerror(number)):
            outbox.add("job-1", "step-1", StatusReport(status="Completed", step_id="step-1"))
    assert len(outbox) == 0
    assert list((tmp_path / "outbox").iterdir()) == []


async def test_a_result_that_cannot_be_removed_is_sent_again_and_then_goes(tmp_path, monkeypatch):
    """The server refuses it the second time, as it must; the agent goes on."""
    outbox = Outbox(tmp_path)
    outbox.add("job-1", "step-1", StatusReport(status="Completed", step_id="step-1"))
    real, flushed, sent = os.fsync, [], []

    def fail_once(descriptor: int) -> None:
        flushed.append(descriptor)
        if len(flushed) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    class Calls:
        async def send(self, entry: Entry) -> None:
            sent.append(entry.step_id)
            if len(sent) > 1:
                raise Rejected("stale fence")

    monkeypatch.setattr(durable.os, "fsync", fail_once)
    loop = Loop(Calls(), None, outbox, Pace())
    loop._send_results_of("job-1")
    await asyncio.wait_for(loop._sending["job-1"], 10)
    assert sent == ["step-1", "step-1"]
    assert len(outbox) == 0
    assert loop._exit_code == 0


async def test_an_idle_agent_beats_between_its_polls_and_keeps_one_connection(tmp_path):
    said, under_way = [], []

    class Calls:
        async def call(self, name: str) -> None:
            assert under_way == [], "a second call at the same time opens a second connection"
            under_way.append(name)
            said.append(name)
            await asyncio.sleep(0.01)
            under_way.remove(name)

        async def heartbeat(self, _heartbeat: Heartbeat) -> HeartbeatReply:
            await self.call("beat")
            return HeartbeatReply(reconnect_seconds=7.0)

        async def work(self, _boot_id: str) -> Work:
            await self.call("poll")
            if said.count("poll") == 3:
                raise Gone("retired")
            return Work()

    # a poll lasts longer than the time between two beats
    loop = Loop(Calls(), None, Outbox(tmp_path), Pace(heartbeat_seconds=600, poll_seconds=601, quick_answer_seconds=60))
    beating = asyncio.create_task(loop._beat_forever())
    await asyncio.wait_for(loop._poll_forever(), 60)
    beating.cancel()
    assert said == ["beat", "poll"] * 3
    assert loop._reconnect == timedelta(seconds=7)


async def test_whoever_holds_a_lease_comes_back_first(tmp_path):
    class Told(Backoff):
        def failed(self, retry_after: timedelta | None = None, spread: timedelta = timedelta(0)) -> float:
            asked.append((retry_after, spread))
            return 0.0

    asked: list[tuple[timedelta | None, timedelta]] = []
    outbox, minute = Outbox(tmp_path), timedelta(minutes=1)
    loop = Loop(None, None, outbox, Pace())
    loop._reconnect = minute
    await loop._back_off(Told(), "agent.poll_failed", Temporary("the connection was lost"))
    await loop._back_off(Told(), "agent.poll_failed", Misconfigured("that is no matter of many agents"))
    outbox.add("job-1", "step-1", StatusReport(status="Completed", step_id="step-1", fence=1))
    await loop._back_off(Told(), "agent.poll_failed", Temporary("the connection was lost"))
    assert asked == [(None, minute), (None, timedelta(0)), (None, timedelta(0))]


async def test_whoever_holds_a_lease_tries_again_within_it(tmp_path, monkeypatch):
    class Long(Backoff):
        def failed(self, _retry_after: timedelta | None = None, _spread: timedelta = timedelta(0)) -> float:
            return 3600.0

    waits = []

    async def wait_for(waiting, seconds: float) -> None:
        waiting.close()
        waits.append(round(seconds, 3))

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(loop_module.asyncio, "wait_for", wait_for)
    monkeypatch.setattr(loop_module.asyncio, "sleep", sleep)
    loop = Loop(None, None, Outbox(tmp_path), Pace(heartbeat_seconds=30))
    lost = Temporary("the connection was lost")
    await loop._back_off(Long(), "agent.heartbeat_failed", lost)
    item = WorkItem(id="job-1", type="Issuance", certificate_id="mc-1", step_id="step-1", fence=1, lease_seconds=30)
    loop._hand.take(item)
    await loop._back_off(Long(), "agent.heartbeat_failed", lost)
    assert [sum(waits[:2]), sum(waits[2:])] == [3600.0, 10.0]
