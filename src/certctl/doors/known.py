"""Who calls and how far they reach, as every kind of request tells it: one truth for the REST API and the pages."""

from __future__ import annotations

from typing import Any, cast

from certctl.core.actor import Actor
from certctl.core.errors import NotAuthenticated
from certctl.core.scope import Scope
from certctl.doors.edge import HttpScope, caller_of, knock_of
from certctl.doors.identity import Caller, Knock
from certctl.doors.state import AppState
from certctl.lifecycle.context import Context


class Known:
    """Mixed into a web framework's request, which has `app` and `scope`."""

    app: Any
    scope: Any

    @property
    def door(self) -> AppState:
        """What the process shares."""
        return cast("AppState", self.app.state.door)

    @property
    def ctx(self) -> Context:
        """The lifecycle's context."""
        return self.door.ctx

    @property
    def edge_scope(self) -> HttpScope:
        """The same call as the edge knows it."""
        return cast("HttpScope", self.scope)

    @property
    def knock(self) -> Knock:
        """What is seen of whoever calls."""
        return knock_of(self.edge_scope)

    @property
    def known(self) -> Caller | None:
        """Who calls, or None where anybody may."""
        return caller_of(self.edge_scope)

    @property
    def caller(self) -> Caller:
        """Who calls; the guard has seen to it that this is known wherever it must be."""
        if self.known is None:
            raise NotAuthenticated("who is calling is not known")
        return self.known

    @property
    def actor(self) -> Actor:
        """Who the event log will name."""
        return self.caller.actor

    def seen_by(self, permission: str) -> Scope:
        """How far a permission of the caller reaches; nothing when they do not have it."""
        caller = self.caller
        return caller.permissions.get(permission, Scope.union(caller.tenant_id, ()))
