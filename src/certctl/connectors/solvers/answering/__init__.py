"""http-01 by this server (RFC 8555 8.3): the answer is kept where every replica's plain listener finds it.

The name's port 80 has to lead there: straight, through a proxy, or by a redirect, which CAs follow.
"""

from __future__ import annotations

from certctl.connectors.base.solver import AnswerBook, Proof


class AnsweringSolver:
    """`answers` is what the plain listener answers from."""

    challenge_type = "http-01"

    def __init__(self, answers: AnswerBook) -> None:
        self._answers = answers

    async def present(self, proof: Proof) -> None:
        """Keep the answer."""
        await self._answers.put(proof.token, proof.key_authorization)

    async def is_visible(self, proof: Proof) -> bool:  # noqa: ARG002 - the interface
        """It is there once it is kept; whether the name leads here only the CA can see from where it stands."""
        return True

    async def cleanup(self, proof: Proof) -> None:
        """Forget it."""
        await self._answers.drop(proof.token)
