"""The story of a certificate, one module a stage; `flow` is the map."""
