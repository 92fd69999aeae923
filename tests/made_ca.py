"""A whole CA in memory for tests: sealed keys, root, intermediate, signer."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from certctl.authority.hierarchy import make_intermediate, make_root
from certctl.authority.keybox import DatabaseSigner
from certctl.authority.signer import IssuingCA, PkiAddresses, SealedKey
from certctl.core.errors import NotFound
from certctl.core.secret import Secret
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.seal import Sealer

NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
ADDRESSES = PkiAddresses("http://pki.example:8080")
SALT = b"a salt of sixteen bytes"


@lru_cache(maxsize=2)
def sealer_of(passphrase: str = "correct horse battery staple") -> Sealer:
    return Sealer(Secret(passphrase), SALT)


@dataclass
class MadeCA:
    """`rows` is the table of sealed keys; `issuing` the intermediate, `root` the one above."""

    rows: dict[str, SealedKey] = field(default_factory=dict)
    signer: DatabaseSigner = field(init=False)
    root: IssuingCA = field(init=False)
    issuing: IssuingCA = field(init=False)

    def __post_init__(self) -> None:
        self.signer = self.new_signer()

    def new_signer(self) -> DatabaseSigner:
        """A signer as a new process has it: nothing unsealed yet."""

        async def load(key_ref: str) -> SealedKey:
            if key_ref not in self.rows:
                raise NotFound(f"no key {key_ref}")
            return self.rows[key_ref]

        return DatabaseSigner(load, sealer_of())

    async def key(self, algorithm: KeyAlgorithm, key_ref: str) -> SealedKey:
        self.rows[key_ref] = await self.signer.create_key(algorithm, key_ref)
        return self.rows[key_ref]


async def make_ca(algorithm: KeyAlgorithm = KeyAlgorithm.ECDSA_P256, now: datetime = NOW) -> MadeCA:
    made = MadeCA()
    root_key = await made.key(algorithm, "k-root")
    root_der = await make_root("Test Root", root_key, made.signer, now, timedelta(days=3650))
    made.root = IssuingCA("ca-root", root_der, (), "k-root", algorithm)
    key = await made.key(algorithm, "k-int")
    der = await make_intermediate("Test Issuing", key, made.root, made.signer, ADDRESSES, now, timedelta(days=1825))
    made.issuing = IssuingCA("ca-int", der, (root_der,), "k-int", algorithm)
    return made
