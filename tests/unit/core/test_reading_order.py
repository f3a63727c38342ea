"""The docstrings of core and runtime list every module, that of core also every spec field."""

import re
from pathlib import Path

from initpipeline import core, runtime
from initpipeline.api.models import InitPipelineSpec


def _parts() -> tuple[str, str]:
    order, _, fields = (core.__doc__ or "").partition("Modules in which")
    return order, fields


def test_reading_order_names_each_module_once() -> None:
    modules = [path.stem for path in Path(core.__file__).parent.glob("[!_]*.py")]
    assert sorted(re.findall(r"``(\w+)``", _parts()[0])) == sorted(modules)


def test_reading_order_of_the_runtime_names_each_module_once() -> None:
    modules = [path.stem for path in Path(runtime.__file__).parent.glob("[!_]*.py")]
    order = (runtime.__doc__ or "").partition("Reading order:")[2]
    assert sorted(re.findall(r"``(\w+)``", order)) == sorted(modules)


def test_index_of_the_spec_names_each_field() -> None:
    listed = re.findall(r"``(\w+)``", re.sub(r": .*", "", _parts()[1]))
    fields = {field.alias or name for name, field in InitPipelineSpec.model_fields.items()}
    assert set(listed) == fields


def test_index_of_the_spec_names_functions_that_exist() -> None:
    for module, function in re.findall(r"``(\w+)\.(\w+)``", _parts()[1]):
        source = (Path(core.__file__).parent / f"{module}.py").read_text()
        assert f"def {function}(" in source, f"{module}.{function}"
