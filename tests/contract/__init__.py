"""One suite for both sides of each port: whatever holds on AWS (moto, in process) holds in memory, and the other way round.

A test that takes a port's fixture runs twice. Where moto is known to be wrong its side is marked, strictly, with the reason:
the day moto is right, the mark fails. Answers that moto cannot give are put on the wire as EC2 would write them (``ec2_wire``).
"""
