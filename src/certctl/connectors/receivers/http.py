"""Audit events over HTTPS: a POST of NDJSON a batch; any 2xx answer means that all of it was taken."""

from __future__ import annotations

import ssl as tls
from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import urlsplit

from certctl.connectors.base.receiver import Line
from certctl.connectors.dial import DialPolicy
from certctl.connectors.http import Poster
from certctl.core.secret import Secret

NAME = "http"


class Http:
    """One HTTP receiver; its token goes into `Authorization: Bearer`."""

    name = NAME

    def __init__(
        self,
        url: str,
        token: Secret,
        context: tls.SSLContext | None = None,
        timeout: timedelta = timedelta(seconds=30),
    ) -> None:
        parts = urlsplit(url)
        # a path may hold a receiver's secret: what is shown ends with the authority
        self.address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._url, self._token = url, token
        policy = DialPolicy(purpose="audit.http", allow=(parts.hostname or "",), setting="CERTCTL_AUDIT_HTTP_URL")
        self._poster = Poster(policy, self.address, context=context, timeout=timeout)

    async def send(self, lines: Sequence[Line]) -> None:
        """Post all of them."""
        headers = {
            "Content-Type": "application/x-ndjson",
            # the same batch sent again is the same call
            "Idempotency-Key": f"{lines[0].id}/{lines[-1].id}",
        }
        if self._token:
            headers["Authorization"] = f"Bearer {self._token.reveal()}"
        content = b"".join(line.json + b"\n" for line in lines)
        await self._poster.post(self._url, content, headers)
