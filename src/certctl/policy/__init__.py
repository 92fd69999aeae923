"""Pure decisions: facts in, named reasons out. No I/O, no clock, no chance; `now` is always a parameter."""
