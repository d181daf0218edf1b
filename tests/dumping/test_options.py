"""The options of a dump: one record, from which parameters and their descriptions follow."""

import dataclasses
import inspect
import re

import pytest

import cnatool
from cnatool.dumping.options import DATA, PREPROCESSING, RUN, STORE, STORED, DumpOptions
from cnatool.errors import UsageError

FIELDS = dataclasses.fields(DumpOptions)


@pytest.mark.parametrize("function", [cnatool.dump, cnatool.preflight])
def test_fields_are_the_keyword_arguments(function: object) -> None:
    model, data, store, *keywords = inspect.signature(function).parameters.values()
    assert [one.name for one in (model, data, store)] == ["model", "data", "store"]
    assert {one.kind for one in keywords} == {inspect.Parameter.KEYWORD_ONLY}
    assert [(one.name, one.default) for one in keywords] == [(f.name, f.default) for f in FIELDS]


def test_each_field_is_described_once() -> None:
    described = re.findall(r"^    (\w+) : ", str(cnatool.dump.__doc__), re.M)
    assert described == ["model", "data", "store", *(field.name for field in FIELDS)]
    for field in FIELDS:
        assert field.metadata["panel"] in (DATA, PREPROCESSING, STORED, RUN, STORE)
        text = " ".join(str(cnatool.dump.__doc__).split())
        assert text.count(field.metadata["summary"]) == 1, field.name


def test_names_in_descriptions_are_parameters() -> None:
    names = {"model", "data", "store", "Flatness", *(field.name for field in FIELDS)}
    for field in FIELDS:
        text = field.metadata["summary"] + field.metadata["details"]
        assert set(re.findall(r"(?<!`)`(\w+)`(?!`)", text)) <= names


def test_a_record_is_checked_and_frozen() -> None:
    with pytest.raises(UsageError, match="`on_error='ignore'`: stop or skip"):
        DumpOptions(on_error="ignore")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="`threads=100000`: up to"):
        DumpOptions(threads=100_000)
    # As on the command line.
    with pytest.raises(UsageError, match=r"^`reduce=\['conv\*=mean'\]`: a dictionary\.$"):
        DumpOptions(reduce=["conv*=mean"])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="`tags='run=3'`: a dictionary"):
        DumpOptions(tags="run=3")  # type: ignore[arg-type]
    options = DumpOptions(statistics=("max",), tensors="fc*")
    assert options.computed_statistics == ("sum", "max")
    assert options.patterns == ("fc*",)
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.limit = 3  # type: ignore[misc]
    with pytest.raises(TypeError, match="unexpected keyword argument 'limits'"):
        cnatool.dump("net.onnx", limits=3)  # type: ignore[call-arg]


def test_an_unknown_keyword_is_reported_as_by_any_function() -> None:
    with pytest.raises(TypeError, match=r"^dump\(\) got an unexpected keyword argument 'limt'$"):
        cnatool.dump("m.onnx", "data", "s.zarr", limt=10)  # type: ignore[call-arg]
