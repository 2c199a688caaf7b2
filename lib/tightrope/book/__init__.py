"""A run of a chapter: its sizes, what it records, keeps and shows."""
