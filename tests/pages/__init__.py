"""A job as a page: what is drawn, what is escaped, and how it looks in a real browser."""
