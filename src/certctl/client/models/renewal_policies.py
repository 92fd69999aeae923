"""Renewal policies: when to renew, and when to tell whom."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

from certctl.client.models.bounds import Id, Text


class WindowView(Struct, frozen=True, kw_only=True):
    """Hours of some days (`mon` to `sun`) within which renewals run, `HH:MM` in UTC; an end before the start is of the
    next day.
    """

    days: list[Text]
    start: Text = "00:00"
    end: Text = "00:00"


class FreezeView(Struct, frozen=True, kw_only=True):
    """A time within which nothing is renewed that can wait."""

    name: Text
    starts_at: datetime
    ends_at: datetime


class RenewalPolicyView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One policy: a window in days before not_after, or (ours) a fraction of the life that may be left."""

    id: str
    name: str
    renewal_window_days: int | None
    auto_renew: bool
    max_retries: int
    retry_interval_seconds: int
    alert_thresholds_days: list[int]
    created_at: datetime
    updated_at: datetime
    renewal_window_fraction: float | None = None
    certificate_profile_id: str = ""
    alert_channels: dict[str, list[str]] = {}
    alert_severity_map: dict[str, str] = {}
    renewal_windows: list[WindowView] = []
    freezes: list[FreezeView] = []
    row_version: int = 0


class RenewalPolicyWrite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller may say of a policy; what is absent on an update stays."""

    # what null clears in a merge patch, and to what
    cleared: ClassVar[Mapping[str, Any]] = {
        "renewal_window_days": None,
        "renewal_window_fraction": None,
        "alert_thresholds_days": [],
        "alert_channels": {},
        "alert_severity_map": {},
        "certificate_profile_id": "",
        "renewal_windows": [],
        "freezes": [],
    }
    read_only: ClassVar[frozenset[str]] = frozenset({"row_version", "created_at", "updated_at"})

    id: Id | None = None
    name: Text | None = None
    renewal_window_days: Annotated[int, Meta(ge=1, le=365)] | None = None
    renewal_window_fraction: Annotated[float, Meta(gt=0, lt=1)] | None = None
    auto_renew: bool | None = None
    max_retries: Annotated[int, Meta(ge=0, le=10)] | None = None
    retry_interval_seconds: Annotated[int, Meta(ge=60, le=86400)] | None = None
    alert_thresholds_days: list[Annotated[int, Meta(ge=0, le=365)]] | None = None
    alert_channels: dict[Text, list[Text]] | None = None
    alert_severity_map: dict[Text, Text] | None = None
    certificate_profile_id: Id | None = None
    renewal_windows: Annotated[list[WindowView], Meta(max_length=50)] | None = None
    freezes: Annotated[list[FreezeView], Meta(max_length=200)] | None = None
