"""Bounds of fields, said once: what both databases can hold and what people mean."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Text = Annotated[str, Meta(max_length=255)]
LongText = Annotated[str, Meta(max_length=4096)]
Id = Annotated[str, Meta(max_length=128)]
Pem = Annotated[str, Meta(max_length=65536)]
# SQL integers are 32 bits wide
Seconds = Annotated[int, Meta(ge=0, le=2**31 - 1)]
PositiveSeconds = Annotated[int, Meta(ge=1, le=2**31 - 1)]
