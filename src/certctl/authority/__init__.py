"""The built-in CA: keys behind a signer, a hierarchy, lint before signing, CRL and OCSP."""
