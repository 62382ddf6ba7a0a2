"""The decision core: pure. It reads no clock, no environment, no network and no randomness; ``now`` is a parameter.

Imports only ``jobspec`` and pydantic; ``lint-imports`` and a test hold it to that. Start with ``decide``, which says in which order things are
weighed. Its steps, and what they stand on:

* what is known: ``state`` (a job), ``records`` (its attempts), ``kin`` (its relatives); ``events`` come in, ``actions`` go out
* a job's instances: ``attempts`` (what is learnt of them), ``replacing`` (when the next is planned), ``launching`` (what a launch's answer leads
  to), ``terminating`` (who must end, and why), ``gpus`` (idle ones)
* where the next runs: ``placement``, on ``pools`` (their prices), ``strategy`` (spot or on-demand), ``history`` (what the job's own attempts teach),
  ``egress`` (bytes that cross regions) and ``failures`` (what EC2's refusals mean)
* jobs of jobs: ``families``, ``sweeps``, ``schedules``; ``chain`` (one after another)
* beginning and end: ``accept``, ``closing`` (ends, and e-mails owed)
* money: ``ledger``, ``budget``, ``months`` (what a monthly budget counts by)
* told to people: ``report`` (status), ``letters`` and ``sweep_letters``, ``webhooks``, ``measures`` (metrics)
* the whole project: ``turns`` (who is next), ``strays`` (instances that no job names)
"""
