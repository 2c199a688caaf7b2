"""environment.yml gives conda users what pyproject.toml gives pip users; the other files that name versions agree."""

import re
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from tightrope.book.checkout import Checkout
from tightrope.book.press import checks

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_conda_users_get_the_same_set():
    assert checks.environment(Checkout(ROOT)) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("-e .[book]", "-e ."),
        ("      - -e .[book]", "      - -e .[book]\n      - numpy==1.0"),
        ("  - pip\n", "  - pip\n  - numpy\n"),
        ("python=3.12", "python=3.9"),
    ],
)
def test_another_set_is_noticed(old, new, tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    text = (ROOT / "environment.yml").read_text()
    assert old in text
    (tmp_path / "environment.yml").write_text(text.replace(old, new, 1))
    assert checks.environment(Checkout(tmp_path)) != []


def test_the_book_is_pinned_within_the_librarys_ranges():
    ranges = {Requirement(line).name.lower(): Requirement(line) for line in PROJECT["dependencies"]}
    extras = PROJECT["optional-dependencies"]
    pins = {}
    for line in extras["book"] + extras["test"]:
        requirement = Requirement(line)
        (pin,) = requirement.specifier
        assert pin.operator == "==", line
        pins[requirement.name.lower()] = pin.version
    for name, requirement in ranges.items():
        assert requirement.specifier.contains(pins[name]), name


def test_the_workflows_use_pythons_the_project_allows_and_the_two_commands():
    lowest = tuple(int(n) for n in re.findall(r"\d+", PROJECT["requires-python"]))
    commands = set()
    for name in ("test", "publish"):
        (job,) = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())["jobs"].values()
        setup = next(s["with"] for s in job["steps"] if s.get("uses", "").startswith("actions/setup-python"))
        wanted = job.get("strategy", {}).get("matrix", {}).get("python", [setup["python-version"]])
        assert all(tuple(map(int, version.split("."))) >= lowest for version in wanted)
        commands |= {s["run"] for s in job["steps"] if s.get("run", "").startswith("make")}
    assert commands == {"make test", "make book"}


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == PROJECT["urls"]["Source"]
