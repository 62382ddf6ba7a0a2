"""What is made of a built function: bytecode that Lambda's Python takes, models of the calls that are made and no others, nothing that no door imports."""

import ast
import importlib.util
import json
import struct
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import botocore
import pytest
import yaml._yaml
from botocore import xform_name

from bench.lambda_start.layout import ENVIRONMENT, lay_out
from control_plane.adapters import clients
from tests.template.stack import Stack
from tools import bundle

ROOT = Path(__file__).parents[2]
BOTOCORE = Path(botocore.__file__).parent


@pytest.fixture
def build(tmp_path: Path) -> Path:
    for name in ("AFunction", "BFunction"):
        for module in ("control_plane/one.py", "pydantic/main.py", "pydantic/v1/old.py", "pydantic/color.py", "tzdata/zones.py", "typing_extensions.py"):
            path = tmp_path / name / module
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("def fail():\n    raise ValueError\n")
    return tmp_path


def compiled(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix().partition(".")[0] for path in folder.rglob("*.pyc")}


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["bundle.py", *map(str, words), "--botocore", str(BOTOCORE)])
    return bundle.main()


def test_every_function_is_given_the_bytecode_of_what_a_start_imports(build: Path) -> None:
    assert bundle.make(build, BOTOCORE) == (2, 3)
    wanted = {"control_plane/__pycache__/one", "pydantic/__pycache__/main", "__pycache__/typing_extensions"}
    assert compiled(build / "AFunction") == compiled(build / "BFunction") == wanted


def test_it_is_taken_whatever_times_a_zip_gives_the_sources(build: Path) -> None:
    bundle.make(build, BOTOCORE)
    found = Path(importlib.util.cache_from_source(str(build / "BFunction/control_plane/one.py"))).read_bytes()
    # PEP 552: the flags' lowest bit says that a hash stands there, the next that it is to be checked.
    assert struct.unpack("<I", found[4:8])[0] == 0b01
    assert b"/var/task/control_plane/one.py" in found, "a traceback names the file as it lies on Lambda"


def test_what_is_not_built_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bundle, "RUNTIME", sys.version_info[:2])
    assert run(monkeypatch, tmp_path) == 1
    assert "run sam build first" in capsys.readouterr().err


def test_another_pythons_bytecode_is_refused(build: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bundle, "RUNTIME", (2, 7))
    assert run(monkeypatch, build) == 2
    assert "the functions run on 2.7" in capsys.readouterr().err
    assert compiled(build / "AFunction") == set()


def test_it_is_made_for_the_functions_own_python() -> None:
    assert {function["Runtime"] for function in Stack().of_type("AWS::Lambda::Function").values()} == {"python" + ".".join(map(str, bundle.RUNTIME))}


def test_what_no_door_imports_is_taken_away_from_every_function(build: Path) -> None:
    bundle.make(build, BOTOCORE)
    for name in ("AFunction", "BFunction"):
        assert not (build / name / "pydantic/v1").exists()
        assert (build / name / "pydantic/color.py").exists(), "not compiled is not taken away"


def test_a_door_that_does_not_import_is_refused(build: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bundle, "RUNTIME", sys.version_info[:2])
    assert run(monkeypatch, build) == 1
    told = capsys.readouterr().err
    assert "cannot be imported" in told
    assert "control_plane.handlers" in told, "the reason is told"


def test_compiled_packages_of_another_machine_are_not_tried_and_that_is_said(
    build: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bundle, "RUNTIME", sys.version_info[:2])
    (build / "AFunction/pydantic/_core.cpython-399-riscv-linux-gnu.so").touch()
    assert run(monkeypatch, build) == 0
    assert "no door was imported" in capsys.readouterr().out


def test_a_package_for_this_machine_is_known(tmp_path: Path) -> None:
    (tmp_path / f"a{EXTENSION_SUFFIXES[0]}").touch()
    assert bundle.is_importable_here(tmp_path)


def test_a_compiled_package_loses_what_no_loader_reads_and_loads(tmp_path: Path) -> None:
    whole = Path(yaml._yaml.__file__)
    cut = bundle.loaded_part(whole.read_bytes())
    assert len(cut) < whole.stat().st_size
    assert bundle.loaded_part(cut) == cut
    (tmp_path / whole.name).write_bytes(cut)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import _yaml; print(_yaml.get_version_string(), _yaml.__file__)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == [yaml._yaml.get_version_string(), str(tmp_path / whole.name)]


def test_what_is_no_library_of_linux_is_left_as_it_is() -> None:
    assert bundle.loaded_part(b"\xcf\xfa\xed\xfe of a Mac") == b"\xcf\xfa\xed\xfe of a Mac"


def calls_of(source: str) -> set[tuple[str, str]]:
    """(service, method) of each ``self._ec2.terminate_instances(...)``, ``dynamodb.get_item(...)`` and ``self._s3.get_paginator("...")``."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            service, method = ast.unparse(node.func.value).rpartition(".")[2].removeprefix("_"), node.func.attr
            if service in bundle.CALLS:
                found.add((service, ast.literal_eval(node.args[0]) if method == "get_paginator" else method))
    return found


def test_the_models_know_the_calls_that_the_adapters_make_and_no_others() -> None:
    adapters = (ROOT / "functions/control_plane/adapters").glob("*.py")
    made = set().union(*(calls_of(path.read_text()) for path in adapters))
    known = {(service, xform_name(call)) for service, calls in bundle.CALLS.items() for call in calls}
    assert known - made == {("s3", "head_bucket")}, "botocore's own, where a bucket is in another region"
    assert made <= known
    assert set(bundle.CALLS) == set(clients.SERVICES)


def test_a_cut_model_is_what_its_calls_are_made_of(tmp_path: Path) -> None:
    bundle.put_models(tmp_path, BOTOCORE)
    (path,) = (tmp_path / "aws_models/ec2").glob("*/service-2.json")
    model: dict[str, Any] = json.loads(path.read_text())
    assert set(model["operations"]) == set(bundle.CALLS["ec2"])
    assert {"CreateFleetRequest", "FleetLaunchTemplateOverridesRequest", "DescribeInstancesResult", "StateReason"} <= set(model["shapes"])
    assert "CreateVpcRequest" not in model["shapes"]


def test_a_call_that_botocore_does_not_know_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "CALLS", {"sns": ("Telegraph",)})
    with pytest.raises(bundle.NotBuilt, match="has no 'Telegraph' of sns"):
        bundle.put_models(tmp_path, BOTOCORE)


def test_clients_are_made_from_the_cut_models_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle.put_models(tmp_path, BOTOCORE)
    clients._session.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(clients, "MODELS", tmp_path / "aws_models")
        cut = {service: clients.client(service, "us-east-1") for service in clients.SERVICES}
    clients._session.cache_clear()
    for service, made in cut.items():
        assert set(made.meta.method_to_api_mapping.values()) == set(bundle.CALLS[service])
    assert cut["ec2"].can_paginate("describe_instances")
    assert len(clients.client("ec2", "us-east-1").meta.method_to_api_mapping) > 500, "without them botocore's own are read"


@pytest.mark.skipif(not (ENVIRONMENT / "bin/python").exists(), reason="needs .venv-lambda: python3 tools/setup.py test")
def test_every_door_imports_from_what_is_deployed(tmp_path: Path) -> None:
    built = lay_out(tmp_path)
    command = [built.python, "tools/bundle.py", str(tmp_path), "--botocore", str(built.runtime / "botocore")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "every door and room imports" in done.stdout
    (tmp_path / "task/aws_lambda_powertools/logging/utils.py").unlink()
    with pytest.raises(bundle.NotBuilt, match="No module named 'aws_lambda_powertools"):
        _check_with(built.python, built.task, built.runtime / "botocore")


def _check_with(python: str, folder: Path, at: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "executable", python)
        bundle.check(folder, at)
