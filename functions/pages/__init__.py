"""A job as one page that anybody can open: no network, no script, light and dark, readable on a telephone.

``story`` reads what the bucket has of a job, ``charts`` turns numbers into the shapes of a drawing, ``job`` and ``index`` fill the
templates beside them. Rules of this package: pure but for the reader that it is given; it imports jobspec and jinja2; the
control plane and the command line import it, and it imports neither. Every text from outside is escaped by jinja2, for a
manifest, a key or an instance's words may hold anything.
"""
