"""`make bench BENCH=acme`: whole ACME flows a second (new order to certificate), nonces, finalizes by a crowd.

A real server on PostgreSQL in `trust_authenticated` mode, and in the same run pebble, which keeps everything in memory,
validates nothing here and rejects no nonce: what an ACME server with nothing to remember does on this machine. Clients
run on the same cores. The last part sends 100,000 finalizes, `--each` of them for one order, at two replicas, kills one
half way and judges that every order came to exactly one certificate.
Usage: bench/run.py acme [--flows N] [--clients N] [--processes N] [--finalizes N] [--each N] [--in-flight N] [--keep];
`--finalizes 0` leaves the last part out.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import httpx
import uvloop
from kit import arguments, load, milliseconds, tell
from ladder import cpu_seconds, tree

from peers.pebble import pebble
from peers.postgres import Postgres, postgres
from peers.replicas import replicas
from protocol.acme_crowd import ENVIRON, Door, Speaker, exactly_once, known, path_of
from protocol.acme_house import csr_for, new_key

WARM = 100
ROOT = Path(__file__).resolve().parent.parent


async def one_flow(client: Speaker, name: str, csr: str, apart: asyncio.Lock) -> None:
    """New order to certificate, the way clients go; a challenge is answered where there is one to answer.

    pebble 2.10 stands still for good when one client reads an authorization while another makes an order (each waits
    for a lock that the other holds): there, and only there, the two are kept `apart`.
    """
    async with apart:
        made = await client.order(name)
    path, order = path_of(made.headers["location"]), made.json()
    if order["status"] == "pending":
        for url in order["authorizations"]:
            async with apart:
                proof = (await client.post(path_of(url))).json()
            await client.post(path_of(proof["challenges"][0]["url"]), {})
        order = await _until(client, path, {"ready"})
    done = await client.post(path_of(order["finalize"]), {"csr": csr})
    assert done.status == 200, done
    order = done.json()
    if order["status"] != "valid":
        order = await _until(client, path, {"valid"})
    answer = await client.post(path_of(order["certificate"]))
    assert answer.body.startswith(b"-----BEGIN CERTIFICATE-----"), answer


async def _until(client: Speaker, path: str, wanted: set[str]) -> dict[str, Any]:
    for _ in range(3000):
        order = (await client.post(path)).json()
        if order["status"] in wanted:
            return order
        assert order["status"] != "invalid", order
        await asyncio.sleep(0.02)
    raise RuntimeError(f"{path} did not become {wanted}")


class Beside(asyncio.Lock):
    """A lock that keeps nobody apart."""

    async def acquire(self) -> Literal[True]:
        return True

    def release(self) -> None:
        """Nothing was held."""


async def flows(speaker: Speaker, count: int, clients: int, stem: str, apart: asyncio.Lock) -> dict[str, float]:
    """So many flows by so many clients of one account; keys and CSRs are made before."""
    ready = [(f"{stem}{number}.example", csr_for([f"{stem}{number}.example"])) for number in range(count)]
    work, took = iter(ready), []

    async def one(client: Speaker) -> None:
        for name, csr in work:
            started = time.perf_counter()
            await one_flow(client, name, csr, apart)
            took.append(time.perf_counter() - started)
        client.close()

    started = time.perf_counter()
    await asyncio.gather(*(one(speaker.beside(number)) for number in range(clients)))
    return {"flows": count, "per_second": round(count / (time.perf_counter() - started), 1)} | milliseconds(took)


async def costs(speaker: Speaker, count: int, clients: int, pids: dict[str, int]) -> dict[str, dict[str, float]]:
    """Milliseconds of processor a request of each kind, by whose they are; each kind alone, so that they can be told
    apart. Whatever else the machine does, this is what it costs.
    """
    names = [f"cost{number}.example" for number in range(count)]
    csrs = [csr_for([name]) for name in names]
    orders: list[dict[str, Any]] = []

    async def nonce(client: Speaker, _: int) -> None:
        await client.ask("HEAD", client.paths["new-nonce"])

    async def new_order(client: Speaker, number: int) -> None:
        made = await client.order(names[number])
        orders.append({"path": path_of(made.headers["location"]), "name": names[number]})

    async def finalize(client: Speaker, number: int) -> None:
        csr = csrs[names.index(orders[number]["name"])]
        done = await client.finalize(orders[number]["path"], csr)
        assert done.json()["status"] in {"valid", "processing"}, done

    async def poll(client: Speaker, number: int) -> None:
        orders[number] |= await client.ended(orders[number]["path"])

    async def download(client: Speaker, number: int) -> None:
        answer = await client.post(path_of(orders[number]["certificate"]))
        assert answer.body.startswith(b"-----BEGIN CERTIFICATE-----"), answer

    return {
        act.__name__: await _cost(speaker, act, count, clients, pids)
        for act in (nonce, new_order, finalize, poll, download)
    }


async def _cost(
    speaker: Speaker, act: Callable[[Speaker, int], Awaitable[None]], count: int, clients: int, pids: dict[str, int]
) -> dict[str, float]:
    work = iter(range(count))

    async def one(client: Speaker) -> None:
        # the line and the first nonce before anything is counted
        await client.ask("HEAD", client.paths["new-nonce"])
        ready.release()
        await begun.wait()
        for number in work:
            await act(client, number)

    ready, begun = asyncio.Semaphore(0), asyncio.Event()
    speakers = [speaker.beside(number) for number in range(clients)]
    tasks = [asyncio.create_task(one(each)) for each in speakers]
    for _ in tasks:
        await ready.acquire()
    before = {who: cpu_seconds(tree(pid)) for who, pid in pids.items()}
    mine = time.process_time()
    begun.set()
    await asyncio.gather(*tasks)
    spent = {who: cpu_seconds(tree(pid)) - before[who] for who, pid in pids.items()}
    spent["clients"] = time.process_time() - mine
    for each in speakers:
        each.close()
    return {who: round(seconds / count * 1000, 2) for who, seconds in spent.items()}


async def nonces(speaker: Speaker, count: int, clients: int) -> dict[str, float]:
    """Nonces a second, each asked for."""
    work, took = iter(range(count)), []

    async def one(client: Speaker) -> None:
        for _ in work:
            started = time.perf_counter()
            await client.ask("HEAD", client.paths["new-nonce"])
            took.append(time.perf_counter() - started)
        client.close()

    started = time.perf_counter()
    await asyncio.gather(*(one(speaker.beside(number)) for number in range(clients)))
    return {"per_second": round(count / (time.perf_counter() - started), 1)} | milliseconds(took)


async def _measured(speaker: Speaker, asked: argparse.Namespace, apart: asyncio.Lock) -> dict[str, Any]:
    await flows(speaker, asked.clients, asked.clients, "warm", apart)
    return {
        "one_client": await flows(speaker, max(asked.flows // 5, 1), 1, "alone", apart),
        "many_clients": await flows(speaker, asked.flows, asked.clients, "flow", apart),
        "nonces": await nonces(speaker, asked.flows * 5, asked.clients),
    }


def ours(server: Postgres, asked: argparse.Namespace) -> dict[str, Any]:
    """certctl on PostgreSQL."""
    with tempfile.TemporaryDirectory() as directory, replicas(Path(directory), server, journals=False) as row:
        environ = ENVIRON | {"CERTCTL_STEP_LEASE": "30s", "CERTCTL_SERVER_PROCESSES": str(asked.processes)}
        # the server as it is installed: no points of death, no journal
        one = row.add(source=ROOT / "src", **environ)
        doors = [Door(one.port, one.directory / "data" / "ca.pem")]

        async def run() -> dict[str, Any]:
            assert one.process is not None
            speaker = await known(row, doors, 0)
            # as of a minute after the installation, when PostgreSQL itself has looked at what its tables hold
            await flows(speaker, WARM, asked.clients, "first", Beside())
            server.sql("ANALYZE", row.database)
            figures = await _measured(speaker, asked, Beside())
            pids = {"server": one.process.pid, "database": server.process.pid}
            return figures | {"cpu_ms": await costs(speaker, max(asked.flows // 2, 1), asked.clients, pids)}

        return {"processes": asked.processes} | uvloop.run(run())


def theirs(asked: argparse.Namespace) -> dict[str, Any]:
    """pebble, with everything that slows it down on purpose switched off."""
    quick = {"PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_VA_ALWAYS_VALID": "1"}
    with pebble("127.0.0.1:9", **quick) as ca:
        door = Door(ca.port, ca.folder / "cert.pem", "127.0.0.1")
        directory = httpx.get(ca.directory_url, verify=door.context(), trust_env=False).json()
        names = {"new-nonce": "newNonce", "new-account": "newAccount", "new-order": "newOrder"}

        async def run() -> dict[str, Any]:
            paths = {ours: path_of(directory[theirs]) for ours, theirs in names.items()}
            speaker = Speaker([door], new_key(), paths=paths)
            await speaker.register()
            return await _measured(speaker, asked, asyncio.Lock())

        return uvloop.run(run())


def crowd(server: Postgres, asked: argparse.Namespace) -> dict[str, Any]:
    """Many finalizes of each order at two replicas, one of them killed half way; fails when one is doubled or lost."""
    orders = max(asked.finalizes // asked.each, 1)
    with tempfile.TemporaryDirectory() as directory:
        seen = exactly_once(Path(directory), server, orders=orders, each=asked.each, clients=asked.in_flight)
    return {
        "finalizes": orders * asked.each,
        "in_flight": asked.in_flight,
        "orders": orders,
        "certificates": orders,
        "answers": seen.answers,
        "lines_lost": seen.lost,
        "seconds": round(seen.seconds, 1),
        "finalizes_per_second": round(orders * asked.each / seen.seconds, 1),
    } | milliseconds(seen.took)


def main(words: list[str]) -> int:
    """Measure, print, keep."""
    parser = arguments(__doc__)
    parser.add_argument("--flows", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--finalizes", type=int, default=100_000)
    parser.add_argument("--each", type=int, default=80)
    parser.add_argument("--in-flight", type=int, default=200)
    asked = parser.parse_args(words)
    before = load()
    with postgres() as server:
        figures: dict[str, Any] = {"load_before": before, "certctl": ours(server, asked), "pebble": theirs(asked)}
        if asked.finalizes:
            figures["finalize_concurrency"] = crowd(server, asked)
    tell("acme", figures, keep=asked.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
