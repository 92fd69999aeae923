"""A solver shows that we control a name: it puts a challenge's answer where the CA looks, and takes it away again.

Presenting and cleaning up twice is once. Only errors of the ConnectorError family leave a solver.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class Proof(Struct, frozen=True):
    """One challenge to answer. `name` is the DNS name or address to prove, without `*.`."""

    name: str
    token: str
    key_authorization: str


class Solver(Protocol):
    """What every solver can do."""

    @property
    def challenge_type(self) -> str:
        """The challenge it answers: http-01 or dns-01."""
        ...

    async def present(self, proof: Proof) -> None:
        """Put the answer in its place."""
        ...

    async def is_visible(self, proof: Proof) -> bool:
        """Whether the answer is where the CA will look; asked again until it is."""
        ...

    async def cleanup(self, proof: Proof) -> None:
        """Take the answer away."""
        ...


class AnswerBook(Protocol):
    """Where answers of http-01 lie for every replica's listener to find."""

    async def put(self, token: str, key_authorization: str) -> None:
        """Keep an answer, for a while."""
        ...

    async def drop(self, token: str) -> None:
        """Forget it."""
        ...
