"""The command line (``cli.py``) and the laptop cloud (``local/``). Imports jobspec; never the control plane, agent or trainer."""
