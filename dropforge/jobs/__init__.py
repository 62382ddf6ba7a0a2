"""Jobs for the person who owns them: find, show, follow, cancel, put again, fetch the model, read the logs.

``commands`` parses and prints; ``find`` reads status objects, ``follow`` what is new, ``view`` draws, ``order`` puts and deletes
manifests, ``fetch`` downloads, ``logs`` reads what instances printed, ``interrupt`` takes one away on purpose. Rules of this
room: the bucket is the API - nothing goes round the control plane; it needs the rights of docs/operations.md, "Rights of
those who run jobs", and no more. Only ``commands`` is imported before a command runs.
"""
