"""Swap a group of files (key, certificate, chain) as one, so that a server never keeps a half.

    journal staged -> files staged, old ones kept -> validate(staged) -> journal swapping -> renames -> journal swapped
    -> activate -> confirm -> journal confirmed -> leftovers removed -> journal removed

Any failure, and any crash at any point, ends with all new or all old files, the server told. Must never call a swap
done that was not seen to be served, and never remove the old bytes before that.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import ParamSpec, Protocol, TypeVar

import msgspec
from msgspec import Struct

from certctl.connectors.host.allow import AllowFile
from certctl.connectors.host.group import Group, NewFile, Standing
from certctl.connectors.host.journal import Journal, JournalIsCorrupt, Journals, State
from certctl.connectors.host.paths import file_error
from certctl.core.errors import CertctlError, Misconfigured, Temporary
from certctl.telemetry.points import reach

P = ParamSpec("P")
T = TypeVar("T")

LOCK_SECONDS = 60.0


class Swap(Struct, frozen=True, kw_only=True):
    """One group swap. `expect_new` is the fingerprint to be seen served after it.

    `expect_old` is for its undoing: first what the old files make the server serve, then what else it had in memory.
    `where` is the target's own: kept in the journal and handed to `Settling.server` after a crash.
    """

    plan_id: str
    files: tuple[NewFile, ...]
    expect_new: str
    expect_old: tuple[str, ...] = ()
    where: dict[str, str] = {}


class Server(Protocol):
    """The server that uses the files."""

    async def validate(self, staged: Mapping[str, str]) -> None:
        """Try the staged files (path -> path they lie under now). Raises when the server would not take them."""
        ...

    async def activate(self) -> None:
        """Make the server read its files again."""
        ...

    async def confirm(self, expected: tuple[str, ...]) -> str:
        """Wait until one of `expected` is served and return it. Raises when that does not come to pass in time."""
        ...


class Settling(Protocol):
    """What recovery asks of a target."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The files of the target as configured now: where to look when a journal cannot tell."""
        ...

    def server(self, where: Mapping[str, str]) -> Server:
        """The server a journal speaks of; `where` is what the swap was given, empty when the journal is damaged."""
        ...

    def check_live(self, live: Mapping[str, bytes | None]) -> tuple[str, ...]:
        """Raise unless these files belong together; returns the fingerprints they make the server serve."""
        ...


async def swap(order: Swap, server: Server, journals: Journals, allow: AllowFile) -> str:
    """Do it and return the fingerprint that is then served.

    On failure the old files are back, seen to be served where they were before, and the error (of the ConnectorError
    family) says so. Cancelled or killed, it leaves its journal to `recover`. Raises Temporary while another swap of the
    same folders runs or waits to be settled.
    """
    group = Group.open([file.path for file in order.files], allow)
    with group:
        async with _locked(group):
            journal = await _in_thread(_begin, order, group, journals)
            try:
                staged = await _in_thread(group.stage, journal.files, order.files)
                await server.validate(staged)
                reach("swap.validated")
            except Exception as error:
                await _drop_after(error, group, journal, journals)
                raise
            return await _go_forward(group, journal, server, journals)


async def recover(journals: Journals, allow: AllowFile, settling: Settling) -> tuple[str, ...]:
    """Settle every journal: finish forward if all new bytes are there, else back; a sentence for each.

    One that cannot be settled does not stop the others; the first such error is raised at the end.
    """
    sentences: list[str] = []
    failure: CertctlError | None = None
    for plan_id in await _in_thread(journals.open):
        try:
            sentence = await _recover_one(plan_id, journals, allow, settling)
        except CertctlError as error:
            failure = failure or error
        else:
            sentences += [f"plan {plan_id}: {sentence}"] if sentence else []
    if failure is not None:
        raise failure
    return tuple(sentences)


async def _recover_one(plan_id: str, journals: Journals, allow: AllowFile, settling: Settling) -> str:
    try:
        journal = await _in_thread(journals.read, plan_id)
    except JournalIsCorrupt as error:
        return await _settle_corrupt(plan_id, error, journals, allow, settling)
    if journal is None:
        return ""
    group = Group.open([file.path for file in journal.files], allow)
    with group:
        async with _locked(group):
            # The swap may have been alive and ended while the lock was waited for.
            journal = await _in_thread(journals.read, plan_id)
            if journal is None:
                return ""
            return await _settle(group, journal, settling.server(journal.where), journals)


async def _settle(group: Group, journal: Journal, server: Server, journals: Journals) -> str:
    if journal.state == "staged":
        await _in_thread(_drop, group, journal, journals)
        return "nothing had been put in place; what was staged is removed"
    if journal.state == "confirmed":
        await _in_thread(_drop, group, journal, journals)
        return "it was in place and served; leftovers are removed"
    standing = frozenset(await _in_thread(group.standing, journal.files))
    if standing == {Standing.FOREIGN}:
        await _in_thread(_drop, group, journal, journals)
        return "somebody else has replaced all its files since; they are left alone and leftovers are removed"
    if Standing.FOREIGN in standing:
        paths = ", ".join(file.path for file in journal.files)
        raise Misconfigured(
            f"a broken-off deployment cannot be settled: some of {paths} were changed by somebody else; put a matching "
            f"pair there, reload the server, then remove {journals.path(journal.plan_id)}"
        )
    if journal.state == "rolling_back":
        return f"put back: {await _roll_back(group, journal, server, journals)}"
    if Standing.OLD in standing:
        return f"put back, for a new file was lost: {await _roll_back(group, journal, server, journals)}"
    try:
        await _go_forward(group, journal, server, journals)
    except CertctlError as error:
        if await _in_thread(journals.read, journal.plan_id) is not None:
            raise
        return f"put back: {error.message}"
    return "finished: the new files are in place and served"


async def _settle_corrupt(
    plan_id: str, cause: JournalIsCorrupt, journals: Journals, allow: AllowFile, settling: Settling
) -> str:
    """The journal cannot be believed; the files can: a pair that belongs together is activated, seen, and kept."""
    group = Group.open(settling.paths, allow)
    with group:
        async with _locked(group):
            try:
                expected = settling.check_live(await _in_thread(group.live))
            except CertctlError as error:
                raise JournalIsCorrupt(
                    f"{cause.message}, and the files do not belong together ({error.message}); put a matching pair "
                    f"there, reload the server, then remove {journals.path(plan_id)}"
                ) from cause
            server = settling.server({})
            await server.activate()
            await server.confirm(expected)
            await _in_thread(group.clear_leftovers, plan_id)
            await _in_thread(journals.remove, plan_id)
    return "its journal was damaged; the files in place belong together and are served"


async def _go_forward(group: Group, journal: Journal, server: Server, journals: Journals) -> str:
    """From staged (or half renamed) files to served ones; back again when that fails."""
    try:
        await _in_thread(_write_state, journals, journal, "swapping")
        await _in_thread(group.put_in_place, journal.files)
        await _in_thread(_write_state, journals, journal, "swapped")
        await server.activate()
        reach("swap.activated")
        seen = await server.confirm((journal.expect_new,))
        reach("swap.seen")
    except Exception as error:
        try:
            outcome = await _roll_back(group, journal, server, journals)
        except Exception as second:  # whatever it is, the first error is what is raised, with the second told
            outcome = f"putting the old files back failed too ({second}); the next start tries again"
        _tell(error, outcome)
        raise
    await _in_thread(_write_state, journals, journal, "confirmed")
    await _in_thread(_drop, group, journal, journals)
    return seen


async def _roll_back(group: Group, journal: Journal, server: Server, journals: Journals) -> str:
    """The old files back, the server told, the old certificate seen; returns a sentence that says how that went."""
    await _in_thread(_write_state, journals, journal, "rolling_back")
    await _in_thread(group.put_back, journal.files)
    doubt = ""
    # Told to read its files again, the server must serve what they say; not told, what it has in memory will do.
    expected = journal.expect_old[:1]
    try:
        await server.activate()
        reach("swap.reactivated")
    except CertctlError as error:
        doubt = f"the old files are back, but the server was not told: {error.message}"
        expected = journal.expect_old
    if expected:
        try:
            seen = await server.confirm(expected)
            doubt = ""
            outcome = f"the old files are back and {seen[:16]} is served again"
        except CertctlError as error:
            doubt = doubt or f"the old files are back, but are not seen to be served: {error.message}"
    else:
        outcome = "everything is as it was before, when no certificate was seen to be served"
    await _in_thread(_drop, group, journal, journals)
    return doubt or outcome


def _begin(order: Swap, group: Group, journals: Journals) -> Journal:
    ours = {str(file.path) for file in order.files}
    for plan_id in journals.open():
        other = journals.read(plan_id)
        if other is not None and ours & {file.path for file in other.files}:
            raise Temporary(f"the broken-off deployment {plan_id} of the same files must be settled first")
    journal = Journal(
        plan_id=order.plan_id,
        state="staged",
        files=group.describe(order.plan_id, order.files),
        expect_new=order.expect_new,
        expect_old=order.expect_old,
        where=order.where,
    )
    journals.write(journal)
    return journal


def _write_state(journals: Journals, journal: Journal, state: State) -> None:
    journals.write(msgspec.structs.replace(journal, state=state))


def _drop(group: Group, journal: Journal, journals: Journals) -> None:
    group.clear(journal.files)
    journals.remove(journal.plan_id)


async def _drop_after(error: Exception, group: Group, journal: Journal, journals: Journals) -> None:
    try:
        await _in_thread(_drop, group, journal, journals)
    except Exception as second:  # the first error is what is raised, with the second told
        _tell(error, f"what was staged could not be removed ({second}); the next start tries again")


def _tell(error: Exception, outcome: str) -> None:
    """Let people see how the undoing went, together with what made it necessary."""
    error.add_note(outcome)
    if isinstance(error, CertctlError):
        error.message = f"{error.message}; {outcome}"
        error.args = (error.message,)


@contextlib.asynccontextmanager
async def _locked(group: Group) -> AsyncIterator[None]:
    """Hold the folders: flock(2) on each, which also keeps tasks of one process apart, for each opened its own."""
    deadline = asyncio.get_running_loop().time() + LOCK_SECONDS
    pause = 0.002
    for place in group.folders():
        while True:
            try:
                fcntl.flock(place.folder_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise Temporary(f"another deployment holds {place.path.parent}") from error
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, 0.05)
            except OSError as error:
                raise file_error(error, f"the lock on {place.path.parent}") from error
    # Closing the group's descriptors unlocks, also when the process dies.
    yield


async def _in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking work in a thread; cancelled, wait for its end first: nothing may go on without the lock."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # seen; the cancellation is what is told
        raise
