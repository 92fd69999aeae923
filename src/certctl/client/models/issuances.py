"""Many certificates asked for by one call, each with its CSR."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from certctl.client.models.bounds import Id, Pem, PositiveSeconds, Text
from certctl.client.models.problem import ProblemViolation

MOST = 500


class IssueItem(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One certificate for a key of the caller's, which `csr_pem` (PKCS #10) proves. What is left out is as for a new
    one.
    """

    common_name: Annotated[str, Meta(min_length=1, max_length=255)]
    csr_pem: Annotated[Pem, Meta(min_length=1)]
    id: Id = ""
    name: Text = ""
    sans: list[Text] = []
    environment: Text = ""
    owner_id: Id = ""
    team_id: Id = ""
    issuer_id: Id = ""
    renewal_policy_id: Id = ""
    certificate_profile_id: Id = ""
    tags: dict[Text, Text] = {}
    validity_seconds: PositiveSeconds | None = None


class BulkIssueBody(Struct, frozen=True, kw_only=True):
    """Certificates to issue, each judged by itself."""

    certificates: Annotated[list[IssueItem], Meta(min_length=1, max_length=MOST)]


class IssueResult(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one: issued (with its certificate as PEM), under_way (its job tells) or failed.

    `code`, `error` and `violations` are those of the problem document that it would have been alone; where a failed one
    names a job, its certificate stands and the job tells what it failed of.
    """

    index: int
    status: str
    certificate_id: str = ""
    job_id: str = ""
    version_id: str = ""
    ca_certificate_id: str = ""
    serial_number: str = ""
    fingerprint_sha256: str = ""
    not_after: datetime | None = None
    cert_pem: str = ""
    code: str = ""
    error: str = ""
    violations: list[ProblemViolation] = []


class BulkIssueAnswer(Struct, frozen=True, kw_only=True):
    """All of them, in the order given. `chains` has what stands above a certificate, as PEM, by `ca_certificate_id`."""

    total: int
    total_issued: int
    total_under_way: int
    total_failed: int
    chains: dict[str, str]
    results: list[IssueResult]
