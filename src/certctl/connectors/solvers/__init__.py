"""Ways to show a CA that we control a name; one package each."""
