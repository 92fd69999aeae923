"""The only SQL. Every table has tenant_id first, every function takes a Scope."""
