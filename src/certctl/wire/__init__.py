"""Codecs, a module per RFC family, used by our servers and our clients alike. Pure."""
