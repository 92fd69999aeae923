"""http-01 and tls-alpn-01 by an agent on its host: in a web server's folder, or on a port that the agent opens itself.

Which folders and ports, the host's own allow-file says. The agent that holds the certificate's key answers, unless the
issuer names another one.
"""

from __future__ import annotations

from certctl.connectors.base.solver import Hosts, HostWish, Proof


class HostSolver:
    """`hosts` speaks to agents; `wish` says how they answer."""

    def __init__(self, wish: HostWish, hosts: Hosts) -> None:
        self.challenge_type = wish.type
        self._wish = wish
        self._hosts = hosts

    async def present(self, proof: Proof) -> None:
        """Have the agent answer."""
        await self._hosts.ask(proof, self._wish)

    async def is_visible(self, proof: Proof) -> bool:
        """Whether the agent says that it does."""
        return await self._hosts.stands(proof)

    async def cleanup(self, proof: Proof) -> None:
        """Have it taken away."""
        await self._hosts.drop(proof)
