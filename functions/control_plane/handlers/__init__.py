"""The doors: each parses its event, calls one room, and logs one line. Nothing is decided here."""

import gc

# This runs before what a door imports: some 50,000 objects, all to stay, and the clients of its first event make as many again. At its usual 2,000 Python
# looks through them for garbage 45 times, 20 ms of a start; at this it waits until there may be some.
gc.set_threshold(200_000)
