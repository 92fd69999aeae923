"""Calls about people and their sessions: browser sessions, users, break-glass passwords, the settings in force.

Pure data, like `calls`. Beginning a session is none of them: its cookies are a browser's, a client has a key.
"""

from __future__ import annotations

from typing import Any

from certctl.client.calls import API, Call, at
from certctl.client.models import auth, sessions


def check() -> Call[auth.CheckView]:
    """Who calls, in the reference product's older form."""
    return Call(method="GET", path=f"{API}/auth/check", answer=auth.CheckView)


def get_auth_info() -> Call[auth.AuthInfo]:
    """How to sign in there."""
    return Call(method="GET", path=f"{API}/auth/info", answer=auth.AuthInfo)


def get_bootstrap() -> Call[auth.BootstrapState]:
    """Whether the first key may still be made."""
    return Call(method="GET", path=f"{API}/auth/bootstrap", answer=auth.BootstrapState)


def patch_role(role_id: str, changes: dict[str, Any], if_match: str = "") -> Call[auth.RoleView]:
    """Change the fields named of a role, clear those that are None."""
    path = at("auth", "roles", role_id)
    return Call(method="PATCH", path=path, answer=auth.RoleView, body=changes, if_match=if_match)


def remove_demo_grants() -> Call[auth.RemovedAnswer]:
    """Remove what the reference product's demonstration left behind."""
    return Call(method="POST", path=f"{API}/auth/demo-residual/cleanup", answer=auth.RemovedAnswer)


def list_sessions(*, actor_id: str = "", actor_type: str = "", **query: str) -> Call[sessions.SessionsAnswer]:
    """One's own sessions that last; with `actor_id` another's, `*` everybody's."""
    asked = {"actor_id": actor_id, "actor_type": actor_type} | query
    shown = {name: value for name, value in asked.items() if value}
    return Call(method="GET", path=f"{API}/auth/sessions", answer=sessions.SessionsAnswer, query=shown)


def revoke_session(session_id: str) -> Call[None]:
    """End a session."""
    return Call(method="DELETE", path=at("auth", "sessions", session_id), answer=type(None))


def revoke_sessions(*, but_current: bool = False) -> Call[sessions.RevokedAnswer]:
    """End all of one's own sessions, or all but the one that asks."""
    query = {"except": "current"} if but_current else {}
    return Call(method="DELETE", path=f"{API}/auth/sessions", answer=sessions.RevokedAnswer, query=query)


def list_users(**query: str) -> Call[sessions.UsersAnswer]:
    """People whom an identity provider named."""
    shown = {name: value for name, value in query.items() if value}
    return Call(method="GET", path=f"{API}/auth/users", answer=sessions.UsersAnswer, query=shown)


def deactivate_user(user_id: str) -> Call[None]:
    """They are out at once."""
    return Call(method="DELETE", path=at("auth", "users", user_id), answer=type(None))


def reactivate_user(user_id: str) -> Call[None]:
    """They may sign in again."""
    return Call(method="POST", path=at("auth", "users", user_id, "reactivate"), answer=type(None))


def list_breakglass_credentials(**query: str) -> Call[sessions.BreakglassAnswer]:
    """Who has a break-glass password, and how attempts went."""
    shown = {name: value for name, value in query.items() if value}
    path = f"{API}/auth/breakglass/credentials"
    return Call(method="GET", path=path, answer=sessions.BreakglassAnswer, query=shown)


def set_breakglass_password(body: sessions.BreakglassWrite) -> Call[sessions.BreakglassMade]:
    """Give an actor a break-glass password."""
    path = f"{API}/auth/breakglass/credentials"
    return Call(method="POST", path=path, answer=sessions.BreakglassMade, body=body)


def unlock_breakglass_credential(actor_id: str) -> Call[None]:
    """Forget the failures of a credential that is locked."""
    path = at("auth", "breakglass", "credentials", actor_id, "unlock")
    return Call(method="POST", path=path, answer=type(None))


def delete_breakglass_credential(actor_id: str) -> Call[None]:
    """Take an actor's break-glass password away."""
    path = at("auth", "breakglass", "credentials", actor_id)
    return Call(method="DELETE", path=path, answer=type(None))


def get_runtime_config() -> Call[sessions.RuntimeConfig]:
    """The settings in force."""
    return Call(method="GET", path=f"{API}/auth/runtime-config", answer=sessions.RuntimeConfig)
