"""A solver shows that we control a name: it puts a challenge's answer where the CA looks, and takes it away again.

Presenting and cleaning up twice is once. Only errors of the ConnectorError family leave a solver.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class Proof(Struct, frozen=True):
    """One challenge to answer. `name` is the DNS name or address to prove, without `*.`.

    `job_id` and `agent_id` say for which job, and which agent holds the key (empty: none).
    """

    name: str
    token: str
    key_authorization: str
    job_id: str = ""
    agent_id: str = ""


class HostWish(Struct, frozen=True, kw_only=True):
    """How an agent answers: the challenge's `type`, in a folder `webroot` of its host or on `port`.

    `agent_id` is empty for the agent that holds the key.
    """

    type: str
    webroot: str = ""
    port: int
    agent_id: str = ""


class Solver(Protocol):
    """What every solver can do."""

    @property
    def challenge_type(self) -> str:
        """The challenge it answers: http-01, dns-01 or tls-alpn-01."""
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


class Hosts(Protocol):
    """Agents that answer challenges on their hosts."""

    async def ask(self, proof: Proof, wish: HostWish) -> None:
        """Have the agent answer. Raises Misconfigured when it is not there, or cannot."""
        ...

    async def stands(self, proof: Proof) -> bool:
        """Whether the agent's present run says that it answers."""
        ...

    async def drop(self, proof: Proof) -> None:
        """Have the agent answer no more."""
        ...
