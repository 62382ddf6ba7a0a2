"""What a job will need, before a GPU is started: memory, time, money and the seconds of its last save. No torch, no network.

Everything here is a function of the manifest, the model's ``config.json``, a look at the data and the tables beside. Counts are
exact; memory is a formula (docs/planning.md says what it counts); time and money are guesses with a range, and say so.
"""
