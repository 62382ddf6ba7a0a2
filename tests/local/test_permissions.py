"""Policies are evaluated as AWS does it: variables, tags, PassRole, and nothing beyond the role."""

import json
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from .conftest import LocalCloud
from .test_instances import Metadata
from .test_launching import code_of, ids

pytestmark = pytest.mark.local_cloud


def as_role(cloud: LocalCloud, role: str, service: str) -> Any:
    issued = cloud.client("sts").assume_role(RoleArn=cloud.outputs[role], RoleSessionName="test")["Credentials"]
    return _client(cloud, service, issued["AccessKeyId"], issued["SecretAccessKey"], issued["SessionToken"])


def as_instance(cloud: LocalCloud, instance_id: str, service: str) -> Any:
    metadata = Metadata(cloud.metadata_url(instance_id))
    role = metadata.get("/latest/meta-data/iam/security-credentials/")
    issued = json.loads(metadata.get(f"/latest/meta-data/iam/security-credentials/{role}"))
    return _client(cloud, service, issued["AccessKeyId"], issued["SecretAccessKey"], issued["Token"])


def _client(cloud: LocalCloud, service: str, key: str, secret: str, token: str) -> Any:
    session = boto3.Session(aws_access_key_id=key, aws_secret_access_key=secret, aws_session_token=token, region_name=cloud.state.region)
    return session.client(service, endpoint_url=cloud.state.endpoint)  # type: ignore[call-overload]  # the stubs know literal names only


def test_an_instance_is_its_roles_session_under_its_own_name(local_cloud: LocalCloud) -> None:
    instance_id = local_cloud.launch()
    identity = as_instance(local_cloud, instance_id, "sts").get_caller_identity()
    assert identity["UserId"] == f"{local_cloud.outputs['InstanceRoleId']}:{instance_id}"


def test_an_instance_writes_below_its_own_userid_and_nowhere_else(local_cloud: LocalCloud) -> None:
    instance_id = local_cloud.launch()
    s3, bucket, role_id = as_instance(local_cloud, instance_id, "s3"), local_cloud.outputs["Bucket"], local_cloud.outputs["InstanceRoleId"]
    s3.put_object(Bucket=bucket, Key=f"runs/{role_id}:{instance_id}/marker", Body=b"mine")
    for key in (f"runs/{role_id}:i-0123456789abcdef0/marker", "runs/${aws:userid}/marker", "jobs/forged.yaml"):
        with pytest.raises(ClientError) as raised:
            s3.put_object(Bucket=bucket, Key=key, Body=b"not mine")
        assert code_of(raised) == "AccessDenied", key


def test_a_bucket_policy_can_demand_that_a_key_is_written_once(local_cloud: LocalCloud) -> None:
    instance_id = local_cloud.launch()
    s3, bucket = as_instance(local_cloud, instance_id, "s3"), local_cloud.outputs["Bucket"]
    key = f"runs/{local_cloud.outputs['InstanceRoleId']}:{instance_id}/once"
    with pytest.raises(ClientError) as raised:
        s3.put_object(Bucket=bucket, Key=key, Body=b"unconditional")
    assert code_of(raised) == "AccessDenied"
    s3.put_object(Bucket=bucket, Key=key, Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as raised:
        s3.put_object(Bucket=bucket, Key=key, Body=b"second", IfNoneMatch="*")
    assert code_of(raised) == "PreconditionFailed"
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key)
    s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload["UploadId"])


def test_a_launch_needs_the_tag_and_the_type_that_the_policy_names(local_cloud: LocalCloud) -> None:
    ec2 = as_role(local_cloud, "LauncherRole", "ec2")
    assert len(ids(local_cloud.fleet(client=ec2))) == 1
    with pytest.raises(ClientError) as raised:
        local_cloud.fleet(client=ec2, TagSpecifications=[])
    assert code_of(raised) == "UnauthorizedOperation"
    with pytest.raises(ClientError) as raised:
        local_cloud.fleet(client=ec2, types=("g6.xlarge",))
    assert code_of(raised) == "UnauthorizedOperation"


def test_a_launch_with_a_role_needs_pass_role(local_cloud: LocalCloud) -> None:
    with pytest.raises(ClientError) as raised:
        local_cloud.fleet(client=as_role(local_cloud, "NoPassRole", "ec2"))
    assert code_of(raised) == "UnauthorizedOperation"


def test_only_instances_with_the_tag_may_be_ended(local_cloud: LocalCloud) -> None:
    ec2 = as_role(local_cloud, "LauncherRole", "ec2")
    (ours,), theirs = ids(local_cloud.fleet()), local_cloud.launch()
    with pytest.raises(ClientError) as raised:
        ec2.terminate_instances(InstanceIds=[theirs])
    assert code_of(raised) == "UnauthorizedOperation"
    assert ec2.terminate_instances(InstanceIds=[ours])["TerminatingInstances"]


def test_tags_may_not_be_added_after_birth(local_cloud: LocalCloud) -> None:
    theirs = local_cloud.launch()
    with pytest.raises(ClientError) as raised:
        as_role(local_cloud, "LauncherRole", "ec2").create_tags(Resources=[theirs], Tags=[{"Key": "team", "Value": "ours"}])
    assert code_of(raised) == "UnauthorizedOperation"


def test_a_tag_may_be_added_later_only_if_the_policy_names_it_and_the_instance_is_ours(local_cloud: LocalCloud) -> None:
    ec2 = as_role(local_cloud, "NotingRole", "ec2")
    (ours,), theirs = ids(local_cloud.fleet()), local_cloud.launch()
    ec2.create_tags(Resources=[ours], Tags=[{"Key": "seen", "Value": "1"}])
    for instance_id, key in ((theirs, "seen"), (ours, "team")):
        with pytest.raises(ClientError) as raised:
            ec2.create_tags(Resources=[instance_id], Tags=[{"Key": key, "Value": "ours"}])
        assert code_of(raised) == "UnauthorizedOperation", key


def test_a_policy_can_hold_a_role_to_items_by_their_key(local_cloud: LocalCloud) -> None:
    dynamodb, table = as_role(local_cloud, "NotingRole", "dynamodb"), local_cloud.outputs["Table"]
    dynamodb.update_item(TableName=table, Key={"pk": {"S": "NOTE#1"}})
    with pytest.raises(ClientError) as raised:
        dynamodb.update_item(TableName=table, Key={"pk": {"S": "JOB#1"}})
    assert code_of(raised) == "AccessDeniedException"
