"""The issuers under conformance: one factory each. Adding an issuer is adding a line to FACTORIES."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from certctl.authority.signer import IssuingCA
from certctl.connectors.base.issuer import Issuer
from certctl.connectors.issuers.local import LocalIssuer
from certctl.core.errors import NotFound
from made_ca import ADDRESSES, MadeCA, make_ca


def local_over(made: MadeCA) -> LocalIssuer:
    """The local issuer of an in-memory CA, its signer as fresh as a new process has it."""

    async def cas(ca_certificate_id: str | None) -> IssuingCA:
        if ca_certificate_id not in {None, made.issuing.ca_certificate_id}:
            raise NotFound(f"no CA {ca_certificate_id}")
        return made.issuing

    async def root_of(ca: IssuingCA) -> bytes:
        return made.root.certificate_der

    return LocalIssuer(cas, root_of, made.new_signer(), ADDRESSES)


async def local() -> Issuer:
    return local_over(await make_ca())


FACTORIES: dict[str, Callable[[], Awaitable[Issuer]]] = {"local": local}
