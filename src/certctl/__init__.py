"""certctl runs the whole life of X.509 certificates: issue, deploy, prove, renew, revoke, find."""

__version__ = "0.1.0"
