"""The interfaces every connector keeps: two or three verbs, each optional ability a Protocol of its own."""
