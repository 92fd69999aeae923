"""The nouns: ids, names, statuses, scopes, actors, events, errors, clock. Pure; imports nothing of certctl."""
