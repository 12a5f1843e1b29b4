"""Set up what a user of a provider has: files in the home folder, an environment, and an account."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

_HERE = Path(__file__).resolve().parent
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "of-the-box"}
BUCKET = "runs"
_ROLE = "skypilot-v1"
_REGIONS = ("us-east-1", "us-west-2")


def write_laptop(cloud: str, home: Path, url: str) -> None:
    """Write what `sky check` looks for, a catalog of a few rows, and the provider's key."""
    catalogs = home / ".sky/catalogs/v8"
    shutil.copytree(_HERE / "catalogs" / cloud, catalogs / cloud)
    shutil.copytree(_HERE / "catalogs/common", catalogs / "common")
    (home / ".sky/config.yaml").write_text(json.dumps({"allowed_clouds": [cloud]}))  # JSON is YAML
    if cloud == "aws":
        (home / ".aws").mkdir()
        (home / ".aws/credentials").write_text(
            "[default]\n" + "".join(f"{name.lower()} = {value}\n" for name, value in KEYS.items())
        )
        (home / ".aws/config").write_text(f"[default]\nregion = us-east-1\nendpoint_url = {url}\n")
    else:
        (home / ".runpod").mkdir()
        (home / ".runpod/config.toml").write_text('[default]\napi_key = "rpa_of_the_box"\n')


def environment(cloud: str, url: str) -> dict[str, str]:
    """Return the variables by which SkyPilot and cloudrun find the provider on this computer."""
    if cloud == "aws":
        return {"AWS_ENDPOINT_URL": url}
    return {"RUNPOD_API_BASE_URL": url, "CLOUDRUN_RUNPOD_URL": url}


def prepare(cloud: str, url: str) -> None:
    """Add once what a provider's account has from the start, and the box's account lacks."""
    if cloud == "aws":
        _prepare_aws(url)


def _prepare_aws(url: str) -> None:
    """Make a way out of the default networks, SkyPilot's role, and a bucket.

    moto is stricter than AWS about the version of an inline policy, so that SkyPilot cannot make the role there itself.
    """
    import boto3

    words = {"endpoint_url": url} | {name.lower(): value for name, value in KEYS.items()}
    boto3.client("s3", region_name="us-east-1", **words).create_bucket(Bucket=BUCKET)
    for region in _REGIONS:
        ec2 = boto3.client("ec2", region_name=region, **words)
        network = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=network)
        tables = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [network]}])["RouteTables"]
        table = tables[0]["RouteTableId"]
        ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    iam = boto3.client("iam", region_name="us-east-1", **words)
    may_assume = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [may_assume]})
    iam.create_role(RoleName=_ROLE, AssumeRolePolicyDocument=trust)
    iam.create_instance_profile(InstanceProfileName=_ROLE)
    iam.add_role_to_instance_profile(InstanceProfileName=_ROLE, RoleName=_ROLE)
