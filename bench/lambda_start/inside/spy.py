"""The function itself, its calls written down: what the floor is to make as well."""

import importlib
import os
import pickle
from pathlib import Path

import botocore.client

calls = []
original = botocore.client.BaseClient._make_api_call


def told(client, operation, parameters):
    calls.append((client.meta.service_model.service_name, operation, dict(parameters)))
    return original(client, operation, parameters)


botocore.client.BaseClient._make_api_call = told
module, _, name = os.environ["BENCH_HANDLER"].rpartition(".")
real = getattr(importlib.import_module(module), name)
rounds = []


def handler(event, context):
    calls.clear()
    answer = real(event, context)
    rounds.append(list(calls))
    Path(os.environ["BENCH_CALLS"]).write_bytes(pickle.dumps(rounds[-2:] if len(rounds) > 1 else rounds * 2))
    return answer
