"""A bundle as `sam build` makes it: its code runs, its packages, which are for another machine, do not."""

from pathlib import Path

from dropforge.local.plugin.lambdas import _set_packages_aside


def test_installed_packages_are_set_aside_and_our_own_code_stays(tmp_path: Path) -> None:
    for name in ("yaml/__init__.py", "yaml/_yaml.cpython-313-aarch64-linux-gnu.so", "six.py", "jobspec/__init__.py", "requirements.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name, files in {"pyyaml-6.0.3": ["yaml/__init__.py", "yaml/_yaml.cpython-313-aarch64-linux-gnu.so"], "six-1.17.0": ["six.py", "../bin/x"]}.items():
        (tmp_path / f"{name}.dist-info").mkdir()
        (tmp_path / f"{name}.dist-info/RECORD").write_text("".join(f"{file},,\n" for file in [*files, f"{name}.dist-info/RECORD"]))
    _set_packages_aside(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jobspec", "requirements.txt"]
