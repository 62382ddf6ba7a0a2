"""Material for the demonstration: a real pretrained model and real rows, made on the spot from two packages of the index.

Rules of this room: nothing third-party is committed; every figure that shapes the result is a named constant; the same
packages give the same bytes. Nothing else of Dropforge imports it.
"""
