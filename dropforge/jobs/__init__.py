"""Jobs for the person who owns them: find, show, follow, cancel, put again, fetch the model, read the logs.

``looking`` and ``acting`` parse and print (``following`` for both); ``find`` reads status objects, ``follow`` what is new, ``view``
and ``report`` draw, ``order`` puts and deletes manifests, ``fetch`` downloads, ``costs`` adds up, ``logs`` reads what instances
printed, ``interrupt`` takes one away on purpose. Rules of this room: the bucket is the API - nothing goes round the control
plane; it needs the rights of docs/jobs.md, Rights, and no more. Only the first three are imported before a command runs.
"""
