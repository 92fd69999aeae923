"""A believable fleet for `certctl demo --fleet`: months of certificates, hosts and people that never were.

Certificates are real: signed by the installation's own CA through its own connector, linted, in CRL and OCSP. What
nobody can have seen is marked (docs/adr): every event bears `MARK` as its request id, every sight is `MARK`'s, and the
dashboard says on each page that it shows samples. Must never be written beside anybody's real data.
"""

from __future__ import annotations

MARK = "sample"
FACT = "sample_fleet"
