"""Print the lowest version that pyproject.toml allows of each package, as constraints for pip."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
listed = [*project["dependencies"], *(line for lines in project["optional-dependencies"].values() for line in lines)]
for requirement in map(Requirement, listed):
    if requirement.name != project["name"]:
        (lowest,) = [bound.version for bound in requirement.specifier if bound.operator == ">="]
        print(f"{requirement.name}=={lowest}")
