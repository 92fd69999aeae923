"""The bodies that API and client share: one module a resource, decoded and encoded by msgspec."""
