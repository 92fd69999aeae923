"""A typed client of certctl's REST API: `Client` for scripts and terminals, `AsyncClient` for programs.

Both have the same methods (`surface`), send the calls described in `calls` and raise the same errors that the server
raised. The server's certificate is always verified; no proxy of the environment is used.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx

from certctl.client import calls
from certctl.client.calls import Call, Resource
from certctl.client.exchange import (
    CALL_SECONDS,
    Unreachable,
    check_url,
    converse,
    error_of,
    request_of,
    tls_context,
    transport_error,
    walk,
)
from certctl.client.stream import PAUSE_SECONDS, Change, Lines, Reading
from certctl.client.surface import Surface
from certctl.core.secret import Secret

__all__ = ["AsyncClient", "Client", "Unreachable", "calls"]

AnswerT = TypeVar("AnswerT")


class Client(Surface):
    """One server, one key. Use as a context manager, or `close` it. A call takes at most `seconds`, each try of it."""

    def __init__(
        self,
        url: str,
        key: Secret,
        ca_path: Path | None = None,
        *,
        seconds: float = CALL_SECONDS,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = check_url(url)
        self._key = key
        self._seconds = seconds
        verify = tls_context(ca_path)
        self._http = httpx.Client(base_url=self.url, verify=verify, trust_env=False, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(self, call: Call[AnswerT]) -> AnswerT:
        """Send a call; raises CertctlError."""
        talk = converse(call, self._key, self.url, self._seconds)
        try:
            step = next(talk)
            while True:
                try:
                    if isinstance(step, float):
                        time.sleep(step)
                        step = next(talk)
                    else:
                        step = talk.send(self._http.request(**step))
                except httpx.HTTPError as error:
                    step = talk.throw(error)
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]  # what `converse` returns

    def follow(self, last_event_id: str = "") -> Iterator[Change]:
        """What changes, as it changes, without an end; raises CertctlError."""
        reading = Reading(self._key, self.url, last_event_id)
        while True:
            try:
                with self._http.stream(**reading.request()) as response:
                    if not response.is_success:
                        response.read()
                        raise error_of(response)
                    for line in response.iter_lines():
                        if (change := reading.feed(line)) is not None:
                            yield change
            except httpx.HTTPError as error:
                reading.broke(error)
            time.sleep(PAUSE_SECONDS)

    def lines(self, call: Call[bytes]) -> Iterator[bytes]:
        """An answer line by line, however long: `client.lines(audits.export_audit())`; raises CertctlError."""
        try:
            with self._http.stream(**request_of(call, self._key, self._seconds)) as response:
                if not response.is_success:
                    response.read()
                    raise error_of(response)
                lines = Lines()
                for piece in response.iter_bytes():
                    yield from lines.feed(piece)
                yield from lines.end()
        except httpx.HTTPError as error:
            raise transport_error(error, self.url) from error

    def each(self, resource: Resource[AnswerT], **query: str) -> Iterator[AnswerT]:
        """Every row of a list, page by page: `client.each(calls.CERTIFICATES, status="Expiring")`."""
        pages = walk(resource, query)
        call = next(pages)
        while True:
            page = self.send(call)
            yield from page.data
            try:
                call = pages.send(page)
            except StopIteration:
                return


class AsyncClient(Surface):
    """The same for asyncio: `await client.get_job(...)`. Use as a context manager, or `aclose` it."""

    def __init__(
        self,
        url: str,
        key: Secret,
        ca_path: Path | None = None,
        *,
        seconds: float = CALL_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = check_url(url)
        self._key = key
        self._seconds = seconds
        verify = tls_context(ca_path)
        self._http = httpx.AsyncClient(base_url=self.url, verify=verify, trust_env=False, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def send(self, call: Call[AnswerT]) -> AnswerT:
        """Send a call; raises CertctlError."""
        talk = converse(call, self._key, self.url, self._seconds)
        try:
            step = next(talk)
            while True:
                try:
                    if isinstance(step, float):
                        await asyncio.sleep(step)
                        step = next(talk)
                    else:
                        step = talk.send(await self._http.request(**step))
                except httpx.HTTPError as error:
                    step = talk.throw(error)
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]  # what `converse` returns

    async def follow(self, last_event_id: str = "") -> AsyncIterator[Change]:
        """What changes, as it changes, without an end; raises CertctlError."""
        reading = Reading(self._key, self.url, last_event_id)
        while True:
            try:
                async with self._http.stream(**reading.request()) as response:
                    if not response.is_success:
                        await response.aread()
                        raise error_of(response)
                    async for line in response.aiter_lines():
                        if (change := reading.feed(line)) is not None:
                            yield change
            except httpx.HTTPError as error:
                reading.broke(error)
            await asyncio.sleep(PAUSE_SECONDS)

    async def lines(self, call: Call[bytes]) -> AsyncIterator[bytes]:
        """An answer line by line, however long; raises CertctlError."""
        try:
            async with self._http.stream(**request_of(call, self._key, self._seconds)) as response:
                if not response.is_success:
                    await response.aread()
                    raise error_of(response)
                lines = Lines()
                async for piece in response.aiter_bytes():
                    for line in lines.feed(piece):
                        yield line
                for line in lines.end():
                    yield line
        except httpx.HTTPError as error:
            raise transport_error(error, self.url) from error

    async def each(self, resource: Resource[AnswerT], **query: str) -> AsyncIterator[AnswerT]:
        """Every row of a list, page by page: `async for row in client.each(calls.CERTIFICATES)`."""
        pages = walk(resource, query)
        call = next(pages)
        while True:
            page = await self.send(call)
            for row in page.data:
                yield row
            try:
                call = pages.send(page)
            except StopIteration:
                return
