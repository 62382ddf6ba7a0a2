"""The only file that knows ministack's private names: it loads them, checks that they exist, and wraps them.

ministack is a beta that changes often, so its version is pinned and everything leaned on is checked at start: a release
that moved something fails with a sentence, never with a half-working cloud.
"""

import importlib
import importlib.metadata
from collections.abc import Callable
from typing import Any

PINNED_VERSION = "1.5.33"

_NAMES = {
    "app": ("app", "pin_request_origin"),
    "core.iam_actions": ("dynamodb_service_context", "request_tag_context", "s3_service_context"),
    "core.iam_evaluator": ("enforce", "_first_match", "_principal_keys", "_resolve_condition_key"),
    "core.lambda_runtime": ("ProvidedWorker", "ProvidedRuntimeError", "_worker_class_for", "_signal", "_collect", "reset"),
    "core.responses": ("request_scope", "get_account_id", "get_region"),
    "services.budgets": ("_create_budget", "_delete_budget"),
    "services.cloudformation.provisioners": ("_RESOURCE_HANDLERS", "_ec2_sg_permissions"),
    "services.dynamodb": ("_tables",),
    "services.ec2": (
        "_ACTION_MAP",
        "_DEFAULT_SUBNET_ID",
        "_error",
        "_find_active_iam_instance_profile_association",
        "_instance_xml",
        "_instances",
        "_launch_instances_internal",
        "_mark_iam_instance_profile_association_disassociated",
        "_resolve_iam_instance_profile",
        "_resolve_launch_template_data",
        "_resource_matches_tag_filters",
        "_security_groups",
        "_subnets",
        "_tags",
        "_xml",
    ),
    "services.eventbridge": (
        "_dispatch_event",
        "_dispatch_to_event_bus",
        "_dispatch_to_lambda",
        "_parse_rate_seconds",
        "_put_events",
        "_SCHEDULER_TICK_INTERVAL",
    ),
    "services.iam": ("_lookup_instance_profile", "_roles"),
    "services.lambda_svc": (
        "_emit_lambda_logs",
        "_execute_function",
        "_execute_function_provided_warm",
        "_execute_function_warm",
        "_execution_record_for_config",
        "_get_func_record_for_ref",
        "_provided_runtime_code_dir",
        "_provided_worker_env",
        "_runtime_env_vars",
        "invoke_async_with_retry",
    ),
    "services.s3": ("_fire_s3_event",),
    "services.scheduler": ("_SCHEDULE_TICK_INTERVAL",),
    "services.sns": ("_fanout", "_matches_filter_policy", "_resolve_message_for_protocol", "_topic_by_arn_any_scope"),
    "services.ssm": ("_public_parameter",),
    "services.sts": ("register_session",),
}


class SeamMissing(RuntimeError):
    """The installed ministack is not the one this plugin was written for; the message says what to do."""


def check() -> None:
    """Raise SeamMissing unless the pinned version is installed and has every name that the plugin leans on."""
    installed = importlib.metadata.version("ministack")
    remedy = f"Install ministack=={PINNED_VERSION} (make setup), or adapt dropforge/local/plugin/ to the new version."
    if installed != PINNED_VERSION:
        raise SeamMissing(f"ministack {installed} is installed, the local cloud is written for {PINNED_VERSION}. {remedy}")
    missing = [f"{path}.{name}" for path, names in _NAMES.items() for name in names if not hasattr(module(path), name)]
    if missing:
        raise SeamMissing(f"ministack {installed} has no {', '.join(missing)}. {remedy}")


def module(path: str) -> Any:
    """A ministack module; Any, because nothing of it is typed."""
    return importlib.import_module(f"ministack.{path}")


def wrap(path: str, name: str, around: Callable[[Any], Any]) -> None:
    """Replace ``ministack.<path>.<name>`` by what ``around`` makes of the original."""
    target = module(path)
    setattr(target, name, around(getattr(target, name)))


def __getattr__(name: str) -> Any:
    """``seams.ec2`` and so on: the service modules by their short names."""
    for path in _NAMES:
        if path.rsplit(".", 1)[-1] == name:
            return module(path)
    raise AttributeError(name)
