"""Configure: what operators set up, by forms that are made of the API's own schemas. See `kinds` for what there is."""
