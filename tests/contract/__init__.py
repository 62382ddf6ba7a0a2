"""One suite for every side: the same assertions on the real adapters over the AWS in memory, over moto, and over a live account.

A test that takes a port's fixture runs on each side, on the live one only with ``--live``. Where moto is known to be wrong its
side is marked, strictly, with the reason: the day moto is right, the mark fails. Answers that moto cannot give are put on the
wire as EC2 would write them (``ec2_wire``).
"""
