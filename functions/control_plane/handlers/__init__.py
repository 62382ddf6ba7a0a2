"""The doors: each parses its event, calls one room, and logs one line. Nothing is decided here."""
