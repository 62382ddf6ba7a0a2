"""The contract: everything that two parts of Dropforge must agree on, and nothing else.

Manifest, object keys, ticket, heartbeat, checkpoint and completion marker, run file, instance tags, status object.
Rules of this room: no boto3, no torch, no import of control_plane, agent, trainer or dropforge; no clock, no
environment, no network. Everyone may import it; it imports only pydantic, PyYAML and the standard library, and cronsim where a manifest has a schedule.
Both sides of a wire read a document through the model here, so that a wrong one is refused at the door.
"""
