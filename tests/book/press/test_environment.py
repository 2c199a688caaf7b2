"""environment.yml gives conda users what pyproject.toml gives pip users; the other files that name versions agree."""

import json
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_conda_users_get_the_same_set():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert conda == ["python=3.12", "pip", {"pip": ["-e .[book]"]}]  # the pins stand in pyproject.toml alone
    assert SpecifierSet(PROJECT["requires-python"]).contains("3.12")


def test_the_book_is_pinned_within_the_librarys_ranges():
    ranges = {Requirement(line).name.lower(): Requirement(line) for line in PROJECT["dependencies"]}
    extras = PROJECT["optional-dependencies"]
    pins = {}
    assert "tightrope[course]" in extras["test"]
    for line in extras["book"] + extras["course"] + extras["test"]:
        requirement = Requirement(line)
        if requirement.name == PROJECT["name"]:
            continue
        (pin,) = requirement.specifier
        assert pin.operator == "==", line
        pins[requirement.name.lower()] = pin.version
    for name, requirement in ranges.items():
        assert requirement.specifier.contains(pins[name]), name


def test_binder_and_codespaces_take_the_cpu_build_of_the_same_set():
    index = "https://download.pytorch.org/whl/cpu"
    lines = (ROOT / ".binder" / "requirements.txt").read_text().splitlines()
    given = [line for line in lines if not line.startswith("#")]
    pinned = [line for line in PROJECT["optional-dependencies"]["book"] if line.startswith("torch")]
    assert given == [f"--extra-index-url {index}", *(f"{pin}+cpu" for pin in pinned), "-e .[book]"]
    python = (ROOT / ".binder" / "runtime.txt").read_text().strip().removeprefix("python-")
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert container["image"].endswith(f":{python}")
    assert SpecifierSet(PROJECT["requires-python"]).contains(python)
    assert container["containerEnv"]["PIP_EXTRA_INDEX_URL"] == index
    assert container["postCreateCommand"].removeprefix("make ") in (ROOT / "Makefile").read_text().replace(
        "$(VENV)", ".venv"
    )


def test_the_workflows_use_the_pythons_the_project_allows_and_the_two_commands():
    allowed = [f"3.{k}" for k in range(8, 40) if SpecifierSet(PROJECT["requires-python"]).contains(f"3.{k}")]
    commands = set()
    for name in ("test", "publish"):
        (job,) = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())["jobs"].values()
        setup = next(s["with"] for s in job["steps"] if s.get("uses", "").startswith("actions/setup-python"))
        wanted = job.get("strategy", {}).get("matrix", {}).get("python", [setup["python-version"]])
        assert set(wanted) <= set(allowed)
        assert name != "test" or wanted == allowed
        commands |= {s["run"] for s in job["steps"] if s.get("run", "").startswith("make")}
    assert commands == {"make test", "make book"}


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == PROJECT["urls"]["Source"]
