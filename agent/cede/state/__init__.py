"""What cede remembers: one SQLite database with the journal and the status store."""
