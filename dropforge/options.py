"""Options that several commands share."""

import click

stack_option = click.option("--stack", "stack_name", default="dropforge", envvar="DROPFORGE_STACK", show_default=True, help="Name of the deployed stack.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of lines.")
