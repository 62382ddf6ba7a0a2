"""The trainer: files in, files out. It holds no credentials and needs no network.

Rules of this room: it imports ``jobspec`` and nothing else of ours; torch, transformers, peft, trl and matplotlib are
imported inside functions, so that a bad run file or bad data is refused in a second; time and stop requests are
parameters below ``__main__``; whatever goes wrong ends as one ``FAILED`` progress line with a named code.

The story is ``run.py``. Around it: ``rows`` and ``tokens`` (the data), ``base_model`` (the folder of the base model),
``identity``, ``checkpoints``, ``train`` (TRL's trainer), ``measure`` (loss and answers), ``finish`` (the final folder).
"""
