"""Write docs/compatibility.md from the rows that `breadth.py` keeps."""

from __future__ import annotations

import argparse
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from zoo.rows import Row, read_rows

HERE = Path(__file__).parent
RESULTS = HERE / "breadth.parquet"
PAGE = HERE.parent / "docs" / "compatibility.md"
COMMAND = "python benchmarks/breadth_page.py"
_TITLES = {
    "onnx_package": "networks of the `onnx` package",
    "torchvision": "torchvision",
    "timm": "timm",
    "transformers": "transformers",
    "keras": "Keras",
    "scikit_learn": "scikit-learn",
    "boosting": "gradient boosting",
}
# What a dump is asked for, and what becomes of it.
_DUMPED = ("equal", "unchecked", "different", "refused", "failed")
_OUTCOMES = {
    "equal": "all tensors equal",
    "unchecked": "some tensors without a second value",
    "different": "a tensor differs",
    "refused": "refused",
    "failed": "failed",
}
_OTHERS = {
    "no samples": "without samples",
    "runtime": "not run by ONNX Runtime",
    "exporter": "not exported",
}
_KINDS = {
    "constant": "constants",
    "shape arithmetic": "arithmetic on shapes, which does not depend on the values",
    "no sample axis": "no row for each sample",
    "counted": "rows that count something in the data, such as detections",
    "in a subgraph": "inside If, Loop or Scan, and cannot be exposed",
    "in an operator": "inside an operator that does not return them",
    "not asked for": "optional outputs of an operator, stored with `--tensors inner`",
    "random": "random whatever the input",
    "not numeric": "sequences, maps and text",
    "other": "other reasons",
}
_MOST_MESSAGES = 40
_LONGEST_MESSAGE = 320
# What ONNX Runtime's messages begin with before they say anything.
_ONCE = "the decoder embeds the same positions twice; the exporter merges the two"
# Networks with more or fewer layers than products, and the reason.
_ZEROS = "the framework also multiplies by an initial state of zeros"
_RECURRENT = (
    *("bailing_hybrid", "lara_mini", "minicpm_ocr", "minicpmv4_6", "minicpmv4_7", "minimax"),
    *("olmo_hybrid", "qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next"),
    *("qwen4_exp", "qwen4_exp_text"),
)
_COUNTED_OTHERWISE = {
    **dict.fromkeys(_RECURRENT, _ZEROS),
    **dict.fromkeys(("d_fine", "deimv2", "rt_detr", "rt_detr_v2"), _ONCE),
    "mra": "attention returns zeros without its CUDA kernel: only the shape of the queries is read",
}
_PREAMBLE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : |Load model from \S+ failed: ?"
    r"|Exception during initialization: |/onnxruntime_src/\S+ "
)
_INTRODUCTION = """\
This page shows which exported models cnatool dumps correctly. {networks}

{tests}

Each model was handled in a separate process: it was exported with random weights, dumped over a \
few samples with full tensors and again with sums alone, and compared tensor by tensor with a \
second computation. In all, {tensors:,} tensors are equal and {different:,} differ.
"""
_SHARE = (
    "Of {count:,} {what}, ONNX Runtime runs {dumped:,} on samples; "
    "**{equal:,} of these ({percent:.1f} %) are dumped with every tensor equal**."
)
_METHOD = """\
## How a tensor is checked

Every operator is computed a second time by ONNX's reference evaluator, from the stored values of \
the tensors that it reads. The samples themselves are known, so if every tensor matches those it \
is computed from, the entire store is right. Operators that are slow in the evaluator (Conv, \
pooling, Resize) are computed by PyTorch; none are computed by ONNX Runtime. The criteria are:

- Full tensors agree within 1e-4 of their largest number (1e-6 of the largest number read, where \
numbers cancel), which is the rounding of float32 sums; within 4e-3 in half precision.
- Integers are equal, or one level off after quantised operators.
- Per-sample sums agree with the full tensors within 1e-5 of the sum of absolute values (2e-3 in \
half precision).

Samples go through the model in batches of two, with a smaller last one, or in batches of the size \
that the model fixes. A model may take 240 s of processor time and 12 GB of address space.

A tensor has no second value if the evaluator does not know its operator, or if the evaluator \
disagrees with ONNX Runtime when that runs on its own, without cnatool: the store then holds what \
the runtime computes.

*Without samples* are tests of single operators that have no array of numbers as input, or whose \
results have no row for each sample, such as an ArgMax over all of them. The same goes for types \
of transformers for which no small configuration was found, or no input with a row for each \
sample: many expect the patches of all images end to end.
"""
_NOT_TRIED = """\
## What was not tried

- networks with more than 60 million parameters, which have the same operators as their smaller \
siblings;
- torchvision's detectors and quantised networks, which need its compiled operators;
- training mode, in which a network couples the samples of a batch;
- execution providers other than the CPU{others}.

Images are as small as a network accepts, often 64 pixels wide. A dump with real weights and \
images has the same graph.
"""
_REPEAT = """\
## Repeat it

<!-- not run: takes hours, and writes this page -->
```bash
pip install -e . torch torchvision timm onnxscript
python benchmarks/breadth.py onnx_package torchvision timm
python benchmarks/breadth_page.py
```

Networks that already have a row in `benchmarks/breadth.parquet` are not run again, and an \
interrupted run continues where it stopped. `--again refused failed` repeats networks with those \
outcomes, and `--again 'in a subgraph'` those in which such tensors were left out; \
`--only 'timm/resnet*'` chooses networks. Other sources are in `benchmarks/zoo/sources`, each with \
a docstring that describes what it needs.
"""


def describe(rows: Sequence[Row]) -> str:
    """Describe all rows in Markdown."""
    tests = [row for row in rows if _tests_an_operator(row)]
    networks = [row for row in rows if not _tests_an_operator(row)]
    families = len({(row.source, row.family) for row in networks})
    introduction = _INTRODUCTION.format(
        networks=_describe_share(networks, f"networks and other models, of {families:,} families"),
        tests=_describe_share(tests, "tests of single operators from the `onnx` package"),
        tensors=sum(row.equal + row.sums for row in rows),
        different=sum(row.different for row in rows),
    )
    parts = [
        f"<!-- Made from benchmarks/breadth.parquet: {COMMAND} -->\n",
        "# Compatibility\n",
        introduction,
        "## By source\n",
        _table_by_source(rows),
        _METHOD,
        *_describe_left_out(rows),
        *_describe_problems(rows),
        *_describe_layers(rows),
        _NOT_TRIED.format(others="".join(_describe_exporters(rows))),
        "## By family\n",
        *_describe_families(rows),
        "## Versions\n",
        "".join(f"- {text}\n" for text in _list_versions(rows)),
        _REPEAT,
    ]
    return "\n".join(parts).rstrip() + "\n"


def _tests_an_operator(row: Row) -> bool:
    """Whether a row is of one of the onnx package's tests of operators, not of a network."""
    return row.source == "onnx_package" and row.name.startswith("test_")


def _describe_share(rows: Sequence[Row], what: str) -> str:
    dumped = sum(row.outcome in _DUMPED for row in rows)
    equal = sum(row.outcome == "equal" for row in rows)
    percent = 100 * equal / max(1, dumped)
    return _SHARE.format(equal=equal, dumped=dumped, percent=percent, what=what, count=len(rows))


def _table(titles: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    every = [titles, ["---"] * len(titles), *lines]
    return "".join(f"| {' | '.join(map(str, cells))} |\n" for cells in every)


def _table_by_source(rows: Sequence[Row]) -> str:
    def cells(title: str, part: Sequence[Row]) -> list[object]:
        counts = Counter(row.outcome for row in part)
        families = len({(row.source, row.family) for row in part})
        outcomes = [f"{counts[each]:,}" if counts[each] else "" for each in (*_OUTCOMES, *_OTHERS)]
        return [title, f"{len(part):,}", families, *outcomes]

    def title(row: Row) -> str:
        if _tests_an_operator(row):
            return "operators (tests of the `onnx` package)"
        return _title(row.source)

    lines = [cells(text, part) for text, part in _group(rows, title)]
    titles = ["", "models", "families", *_OUTCOMES.values(), *_OTHERS.values()]
    return _table(titles, [*lines, cells("all", rows)])


def _group(rows: Iterable[Row], key: Callable[[Row], str]) -> list[tuple[str, list[Row]]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return sorted(groups.items())


def _title(source: str) -> str:
    return _TITLES.get(source, source)


def _describe_left_out(rows: Sequence[Row]) -> Iterator[str]:
    counts: Counter[str] = Counter()
    networks: Counter[str] = Counter()
    for row in rows:
        counts.update(row.left_out)
        networks.update(row.left_out.keys())
    yield "## What is left out\n"
    yield "These tensors of dumped networks are not stored; each store lists its own.\n"
    lines = [
        (title, f"{counts[kind]:,}", f"{networks[kind]:,}")
        for kind, title in _KINDS.items()
        if counts[kind]
    ]
    yield _table(["reason", "tensors", "networks"], lines)


def _describe_problems(rows: Sequence[Row]) -> Iterator[str]:
    """List networks of all other outcomes, those with the same message together."""
    headings = {
        "different": "A tensor differs",
        "refused": "Refused, although ONNX Runtime runs them",
        "failed": "Failed: too much time or memory, or an error",
        "unchecked": "Some tensors without a second value",
        "runtime": "Not run by ONNX Runtime",
        "exporter": "Not exported",
    }
    for outcome, heading in headings.items():
        part = [row for row in rows if row.outcome == outcome]
        if not part:
            continue
        yield f"## {heading}\n"
        groups = sorted(_group(part, _summarise), key=lambda each: -len(each[1]))
        lines = [(_list_names(group), text) for text, group in groups[:_MOST_MESSAGES]]
        yield _table(["networks", "what happens"], lines)
        if len(groups) > _MOST_MESSAGES:
            more = sum(len(group) for _, group in groups[_MOST_MESSAGES:])
            yield f"The Parquet file has {more:,} more, each with its own reason.\n"


def _summarise(row: Row) -> str:
    if row.outcome == "unchecked":
        parts = [f"{row.unchecked} cannot be recomputed"] * bool(row.unchecked)
        parts += [f"{row.disputed} as ONNX Runtime computes them"] * bool(row.disputed)
        return ", ".join(parts)
    text = _PREAMBLE.sub("", row.message)
    if len(text) > _LONGEST_MESSAGE:
        text = f"{text[:_LONGEST_MESSAGE].rpartition(' ')[0]} …"
    return text.replace("|", "\\|").replace("<", "&lt;")


def _list_names(rows: Sequence[Row]) -> str:
    names = [f"{row.name} ({row.exporter})" for row in rows]
    more = f" and {len(names) - 3:,} more" if len(names) > 4 else ""
    return ", ".join(names[:3] if more else names) + more


def _describe_layers(rows: Sequence[Row]) -> Iterator[str]:
    counted = [row for row in rows if row.layers is not None and row.linear_calls is not None]
    if not counted:
        return
    agree = sum(row.layers == row.linear_calls for row in counted)
    yield "## Layers\n"
    yield (
        "The framework counts how often it multiplies data by weights, in convolutions and in "
        "matrix products with one factor that does not depend on the input, if the product "
        f"contributes to an output. In {agree:,} of {len(counted):,} networks, cnatool finds as "
        "many layers. Where it is debatable what a layer is, [a table of architectures]"
        "(models.md#what-counts-in-which-architecture) tells what was chosen.\n"
    )
    lines = [
        (row.name, row.exporter, row.layers, row.linear_calls, _COUNTED_OTHERWISE.get(row.name, ""))
        for row in counted
        if row.layers != row.linear_calls
    ]
    if lines:
        yield _table(["network", "exporter", "layers", "products", "reason"], lines)


def _describe_exporters(rows: Sequence[Row]) -> Iterator[str]:
    """Count the networks that were exported by one of two exporters alone."""
    for source, part in _group(rows, lambda row: row.source):
        names = dict(_group(part, lambda row: row.exporter))
        tried = {exporter: {row.name for row in each} for exporter, each in names.items()}
        for exporter, each in tried.items():
            left = set().union(*tried.values()) - each
            if exporter.startswith("dynamo") and left:
                yield f";\n- {len(left)} networks of {_title(source)} by {exporter}"


def _describe_families(rows: Sequence[Row]) -> Iterator[str]:
    for source, part in _group(rows, lambda row: row.source):
        whole, others = [], []
        for family, members in _group(part, lambda row: row.family):
            counts = Counter(row.outcome for row in members)
            if counts["equal"] == len(members):
                whole.append(f"{family} ({len(members)})")
            else:
                titles = _OUTCOMES | _OTHERS
                text = ", ".join(
                    f"{titles[each]}: {counts[each]}" for each in titles if counts[each]
                )
                others.append((family, len(members), text))
        yield f"### {_title(source)}\n"
        if whole:
            yield f"All tensors of all networks are equal: {', '.join(whole)}.\n"
        if others:
            yield _table(["family", "networks", "outcomes"], others)


def _list_versions(rows: Sequence[Row]) -> list[str]:
    counts = Counter(row.versions for row in rows if row.versions)
    return [f"{text}: {count:,} networks" for text, count in counts.most_common()]


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    options.page.write_text(describe(read_rows(options.results)), "utf-8")


if __name__ == "__main__":
    main()
