"""Object identifiers by the names that people write and by dotted OID (X.660), one table a kind of thing."""

from __future__ import annotations

import re
from collections.abc import Mapping

from cryptography.x509 import ObjectIdentifier

from certctl.core.errors import Malformed, Violation

_DOTTED = re.compile(r"[0-2](\.(0|[1-9]\d{0,9})){1,20}")


class NamedOids:
    """A table of names; an OID that has none there is as good as one that has."""

    def __init__(self, dotted_of_name: Mapping[str, str], *, wanted: str, rule: str, field: str) -> None:
        """`wanted` is what a wrong text is told not to be; `rule` and `field` are those of the violation."""
        self._dotted_of_name = dict(dotted_of_name)
        self._name_of_dotted = {dotted: name for name, dotted in dotted_of_name.items()}
        self._of_folded = {name.lower(): dotted for name, dotted in dotted_of_name.items()}
        self._wanted, self._rule, self._field = wanted, rule, field

    def __getitem__(self, name: str) -> ObjectIdentifier:
        """The OID of a name that stands in the table, as it is written there."""
        return ObjectIdentifier(self._dotted_of_name[name])

    def read(self, text: str) -> ObjectIdentifier:
        """The OID of a text: a name (any case) or dotted. Raises Malformed."""
        dotted = self._of_folded.get(text.strip().lower(), text.strip())
        if not _DOTTED.fullmatch(dotted):
            raise self._fault(text)
        try:
            return ObjectIdentifier(dotted)
        except ValueError as error:
            raise self._fault(text) from error

    def _fault(self, text: str) -> Malformed:
        message = f"{text!r} is {self._wanted}; write {', '.join(sorted(self._dotted_of_name))} or a dotted OID"
        return Malformed(message, violations=(Violation(self._rule, message, self._field),))

    def name(self, oid: ObjectIdentifier | str) -> str:
        """The name of an OID, or the dotted OID itself when it has none here."""
        dotted = oid if isinstance(oid, str) else oid.dotted_string
        return self._name_of_dotted.get(dotted, dotted)
