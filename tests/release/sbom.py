"""The list of the runtime packages in the format of CycloneDX."""

import json
import re
import sys
import warnings
from pathlib import Path

from tests.image.source import Source
from tests.release.commands import run
from tests.release.licenses import licenses


def bill_of_materials(project: Path, version: str, commit: Source) -> str:
    """Return the list as JSON. The time is that of the commit, and there is no serial number."""
    written = run(
        [
            *(sys.executable, "-m", "cyclonedx_py", "requirements", project / "requirements.txt"),
            *("--pyproject", project / "pyproject.toml", "--mc-type", "application"),
            *("--output-reproducible", "--no-validate", "--of", "JSON"),
        ],
        {"SOURCE_DATE_EPOCH": str(commit.epoch), "PYTHONWARNINGS": "ignore"},
    )
    document = json.loads(written)
    root = document["metadata"]["component"]
    root["version"] = version
    found = licenses(project)
    for component in document["components"]:
        component["description"] = re.sub(r"\s+--hash.*", "", component["description"])
        component["licenses"] = [
            {"expression": found[component["name"]], "acknowledgement": "declared"}
        ]
    for entry in document["dependencies"]:
        if entry["ref"] == root["bom-ref"]:
            entry["dependsOn"] = sorted(each["bom-ref"] for each in document["components"])
    _validate(text := json.dumps(document, indent=2, sort_keys=True) + "\n")
    return text


def _validate(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator

        error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if error is not None:
        raise AssertionError(f"the list of packages does not match its schema: {error}")
