"""The dashboard: server-rendered pages over the calls that the API makes too; no SQL of its own."""
