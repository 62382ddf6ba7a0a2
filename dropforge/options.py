"""Options that several commands share."""

import click

stack_option = click.option("--stack", "stack_name", default="dropforge", envvar="DROPFORGE_STACK", show_default=True, help="Name of the deployed stack.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of lines.")
job_argument = click.argument("job", metavar="JOB")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
