"""How a sample's target is configured: as its kind wants it, with the endpoint of a host that nobody can reach."""

from __future__ import annotations

from typing import Any

from certctl.sample.plan import PlacePlan


def config_of(place: PlacePlan, common_name: str) -> dict[str, Any]:
    """The configuration of one place."""
    host, stem = place.host, f"/etc/certctl/tls/{common_name}"
    endpoint = f"{host.name}.example.com:{host.port}"
    if host.target_type == "HAProxy":
        return {"pem_path": f"{stem}.pem", "endpoint": endpoint, "sni": common_name}
    return {"cert_path": f"{stem}.crt", "key_path": f"{stem}.key", "endpoint": endpoint, "sni": common_name}
