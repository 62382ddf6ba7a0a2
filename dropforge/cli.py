"""The command line's front door: every command by its name. What they do lies in the rooms beside.

``manifests`` and ``plan`` (before a job), ``jobs`` (a job), ``operate`` (a stack), ``local`` (the laptop cloud). Rules of this file: it
imports click and nothing that takes longer; a room's ``commands`` module imports what a command needs when it runs.
"""

import click

from dropforge.jobs.acting import cancel, download, interrupt, retry, submit
from dropforge.jobs.looking import cost, list_jobs, logs, report, status
from dropforge.lazy import Later
from dropforge.manifests.commands import init, validate
from dropforge.operate.commands import doctor, pause, redrive, resume, stop_all
from dropforge.plan.commands import plan
from dropforge.refusals import SpeakingGroup


@click.group(
    cls=SpeakingGroup,
    later={"local": Later("dropforge.local.commands:local", "A cloud on this machine: the same template and handlers, no account, nothing billed.")},
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 done; 1 refused, failed, or a job that did not succeed; 2 wrong words on the command line; 130 Ctrl-C while following.",
)
@click.version_option(package_name="dropforge")
@click.option("--debug", is_flag=True, help="Show the stack trace of what goes wrong.")
def main(debug: bool) -> None:
    """Fine-tune language models on spot GPUs: drop a manifest into S3, get a model, an e-mail and a receipt."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that makes a shell complete commands and options: eval "$(dropforge completion bash)"."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "click knows the shells that the option offers"
    click.echo(kind(main, {}, "dropforge", "_DROPFORGE_COMPLETE").source())


for command in (
    *(init, validate, plan),
    *(submit, list_jobs, status, logs, cancel, retry, download, report, cost, interrupt),
    *(doctor, pause, resume, stop_all, redrive),
    completion,
):
    main.add_command(command)
