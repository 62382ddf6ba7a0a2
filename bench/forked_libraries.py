"""Imported once by the fork server: what takes long, under the environment that the trainer's own start sets."""

import os

from trainer.__main__ import ENVIRONMENT

os.environ.update(ENVIRONMENT)

import trainer.story  # noqa: F401 - the libraries read the environment when they are imported
