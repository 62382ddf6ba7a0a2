"""The runs whose calls are heard: simulated worlds, the doors that the simulator leaves out, and instances with the real agent."""

import itertools
import json
from collections.abc import Iterable
from typing import Any

from control_plane.adapters.regions import site_parameter
from control_plane.adapters.webhook import WebhookRefused
from control_plane.core.budget import DETAIL_TYPE, SOURCE, BudgetAlert
from control_plane.core.records import Attempt
from control_plane.core.state import JobState
from control_plane.handlers import budget, budget_relay, completion, instance_state, operator, webhook
from jobspec import keys, tags
from jobspec.operator import DETAIL_TYPE as OPERATOR_REQUEST
from jobspec.operator import SOURCE as OPERATOR
from tests.driver.house import CONTEXT, DATA, MANIFEST, OUTPUTS, WEBHOOK, House
from tests.driver.house import SHARED as OTHER
from tests.iam.calls import World as Knowing
from tests.iam.hearing import Heard, Hearing, Listener, as_function
from tests.iam.site import PEER, REGION, SHARED, Site
from tests.simulation import world as worlds
from tests.simulation.aws import Account
from tests.simulation.aws.account import HOME
from tests.simulation.aws.ec2 import Instance
from tests.simulation.scenario import Scenario
from tools.stack import ROOT


def names_of(site: Site, account: Account, *, data: str, outputs: str, table: str, topic: str) -> dict[str, str]:
    """A run's names by those of the site."""
    return {
        data: site.arn("DataBucket").rpartition(":")[2],
        outputs: site.arn("OutputsBucket").rpartition(":")[2],
        table: site.arn("JobTable").rpartition("/")[2],
        topic: site.arn("Topic"),
        account.ec2.template_id: site.ref("LaunchTemplate"),
        account.project: site.stack.values["AWS::StackName"],
        site_parameter(account.project): site_parameter(site.stack.values["AWS::StackName"]),
    }


def listen(hearing: Hearing, account: Account, names: dict[str, str]) -> None:
    """From here on every client that the account gives tells what is asked of it."""

    def listener(region: str) -> Listener:
        knowing = Knowing(
            hearing.site, lambda resource_id: _tags(account, names, resource_id), lambda bucket, key: _is_there(account, names, bucket, key), region=region
        )
        return as_function(hearing, knowing, names)

    # The site lies in another home region than the simulator's.
    account.through = lambda service, client, region: Heard(client, service, listener(REGION if region == HOME else region))


def _tags(account: Account, names: dict[str, str], resource_id: str) -> dict[str, str]:
    one = account.ec2.instances.get(resource_id)
    if one is None:
        # As region.yaml tags what it makes; in the home region no policy asks for it.
        return {tags.PROJECT: names[account.project]} if resource_id.startswith(("subnet-", "<LaunchTemplate", "launchtemplate")) else {}
    return {key: names.get(value, value) for key, value in one.tags.items()}


def _is_there(account: Account, names: dict[str, str], bucket: str, key: str) -> bool:
    (own,) = [mine for mine, theirs in names.items() if theirs == bucket]
    return account.s3.read(own, key) is not None


def simulate(hearing: Hearing, runs: Iterable[tuple[Scenario, int]]) -> None:
    """The real handlers over the in-memory AWS, scenario by scenario."""
    for scenario, seed in runs:
        world = worlds.World(scenario, seed)
        listen(hearing, world.account, names_of(hearing.site, world.account, data=worlds.DATA, outputs=worlds.OUTPUTS, table=worlds.TABLE, topic="topic"))
        world.run()


#: The doors that drive jobs, and an event with which each hears of the house's job.
DRIVING = ("submit", "interruption", "instance_state", "completion", "reconcile", "budget")


def wake_each_driver(hearing: Hearing) -> None:
    """Whatever wakes a driving function, it does what the job's state asks for: here, ordering the replacement, and then the end."""
    for name, abroad in itertools.product(DRIVING, (False, True)):
        house = _heard_house(hearing, abroad=abroad)
        house.put(**_abroad() if abroad else {})
        first = house.attempt
        house.close_spot(*MANIFEST["compute"]["instance_types"])
        house.reclaim(first)
        house.tick()
        assert house.job.state is JobState.WAITING, name
        house.ec2.capacity = {}
        house.wait(3600)
        _wake(house, name, first)
        assert house.live(), f"{name} ordered no instance"
        # What is not there is looked for as well: the first heartbeat, and a status that a person took away.
        house.s3.remove(DATA, keys.status_key(house.job.name))
        _wake(house, name, first)
        house.beat()
        house.finish()
        _wake(house, name, first)
        assert not house.live(), f"{name} ended no instance"


def _wake(house: House, name: str, first: Attempt) -> None:
    """One invocation in a process of its own."""
    house.forget()
    detail: dict[str, Any] = {"instance-id": first.instance_id}
    match name:
        case "submit":
            house.touch()
        case "interruption":
            house.warn(first)
        case "instance_state":
            event = {"source": "aws.ec2", "detail-type": "EC2 Instance State-change Notification", "detail": detail | {"state": "terminated"}}
            instance_state.handle(event, CONTEXT, house.rooms)
        case "completion":
            key = keys.marker_key(house.job.job_id, first.writer)
            event = {"source": "aws.s3", "detail-type": "Object Created", "detail": {"bucket": {"name": OUTPUTS}, "object": {"key": key}}}
            completion.handle(event, CONTEXT, house.rooms)
        case "reconcile":
            house.tick()
        case "budget":
            alert = BudgetAlert(project=house.account.project, origin="ledger", job_id=house.job.job_id)
            budget.handle({"source": SOURCE, "detail-type": DETAIL_TYPE, "detail": alert.model_dump()}, CONTEXT, house.rooms)


def hear_house(hearing: Hearing, house: House) -> None:
    names = names_of(hearing.site, house.account, data=DATA, outputs=OUTPUTS, table="jobs", topic=house.rooms.settings.topic_arn)
    listen(hearing, house.account, names | {OTHER: SHARED})


def _abroad() -> dict[str, Any]:
    """A manifest's change that keeps its job out of the home region."""
    return {"compute": MANIFEST["compute"] | {"regions": [PEER]}}


def _heard_house(hearing: Hearing, *, abroad: bool = False) -> House:
    house = House(peer_regions=(PEER,) if abroad else ())
    hear_house(hearing, house)
    return house


def take_up(hearing: Hearing) -> None:
    """New manifests, taken up by submit's door, and by the tick where the event was lost: with rows here, in a bucket of ReadBuckets, and nowhere."""
    for told in (True, False):
        for rows, there in (("data/train.jsonl", True), (f"s3://{OTHER}/rows.jsonl", True), (f"s3://{OTHER}/gone.jsonl", False)):
            house = _heard_house(hearing)
            house.s3.write(OTHER, "rows.jsonl", b'{"text": "a"}\n')
            house.leave(data={"train": rows})
            if told:
                house.touch()
            else:
                house.tick(15 * 60)
            assert bool(house.live()) is there, rows


def draw_pages(hearing: Hearing) -> None:
    """A page that is not there yet, and one that is; an attempt that has written lines, and one that has not."""
    house = _heard_house(hearing)
    house.put()
    house.draw()
    house.s3.write(OUTPUTS, keys.logs_prefix(house.job.job_id, house.attempt.writer) + "progress.jsonl", b"{}\n")
    house.draw()


def post_to_a_webhook(hearing: Hearing) -> None:
    """Where nobody listens: what is asked of AWS is asked before."""
    house = _heard_house(hearing)
    house.account.ssm.held[WEBHOOK] = "https://127.0.0.1:9/x"
    house.put(body=b"{")
    (note,) = house.account.sns.published
    try:
        webhook.handle({"Records": [{"EventSource": "aws:sns", "Sns": note}]}, CONTEXT, house.rooms)
    except WebhookRefused:
        return
    raise AssertionError("nobody listens there")


def sweep(hearing: Hearing) -> None:
    """A tick that finds an instance of no job, and a curfew that finds one past its deadline; in each region."""
    for abroad in (False, True):
        _sweep_in(hearing, abroad)


def _sweep_in(hearing: Hearing, abroad: bool) -> None:
    house = _heard_house(hearing, abroad=abroad)
    house.put(limits={"max_runtime": "600s"}, **_abroad() if abroad else {})
    house.wait(7200)
    assert house.curfew() == 1
    marks = {tags.PROJECT: house.account.project, tags.DEADLINE: "9999999999"}
    house.ec2.place(Instance("i-0fffffffffffffff0", "g5.xlarge", f"{PEER}a" if abroad else "us-east-1a", "spot", marks, house.now, 0.3, "1"))
    house.tick(301)
    assert tags.STRAY_SINCE in house.ec2.instances["i-0fffffffffffffff0"].tags


def speak_of_money_and_holds(hearing: Hearing) -> None:
    """The two doors that the simulator leaves out, and the alarm of a job's own budget."""
    house = _heard_house(hearing)
    mail = json.loads((ROOT / "events/budget-mail-sns.json").read_text())
    budget_relay.handle(mail, CONTEXT, house.rooms)
    house.deliver_budget_event()
    for action in ("pause", "resume"):
        detail = {"project": house.account.project, "action": action, "asked_by": "a person", "asked_at": house.now.isoformat(), "reason": "a look at the bill"}
        operator.handle({"source": OPERATOR, "detail-type": OPERATOR_REQUEST, "detail": detail}, CONTEXT, house.rooms)
    house.put(notify={"on": ["budget"]}, limits={"budget_usd": 0.3})
    while house.live():
        house.beat()
        house.tick(240)
