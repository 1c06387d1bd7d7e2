"""The settings: the parser, the defaults, the schema and the three configuration files agree."""

import contextlib
import dataclasses
import itertools
import json
import math
import re
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from snakemake.common.configfile import load_configfile
from snakemake.utils import update_config

from ecsnet import settings
from ecsnet.errors import UserError
from ecsnet.reference import configuration
from ecsnet.schema import describe, json_schema
from ecsnet.settings import Config, parse, parse_config, section_json

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = ROOT / "config/config.yaml"
OVERLAYS = [ROOT / f"config/{name}.yaml" for name in ("minivoc", "vocsubset", "demo")]
SCHEMA = ROOT / "workflow/schemas/config.schema.yaml"
TRAININGS = ("train_cam", "train_ecs", "train_segmenter")


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A setting that is no section: where it stands, its type without None, and its declaration."""

    path: tuple[str, ...]
    hint: Any
    nullable: bool
    item: dataclasses.Field

    @property
    def element(self) -> type:
        return typing.get_args(self.hint)[0] if self.is_list else self.hint

    @property
    def is_list(self) -> bool:
        return typing.get_origin(self.hint) is tuple

    @property
    def length(self) -> int | None:
        arguments = typing.get_args(self.hint)
        return None if not self.is_list or arguments[-1] is Ellipsis else len(arguments)

    @property
    def name(self) -> str:
        return ".".join(self.path)

    @property
    def default(self) -> Any:
        return self.item.default

    @property
    def other(self) -> Any:
        """A valid value that is not the default."""
        metadata = self.item.metadata
        if metadata["choices"]:
            return self.wrap(next(choice for choice in metadata["choices"] if choice != self.default))
        high = 65 if metadata["high"] is None else metadata["high"]
        whole = min(65, high) if min(65, high) != self.default else high - 1
        text = {"url": "https://other/", "md5": "0" * 32, "tags": "main"}.get(
            self.path[-1].split("_")[-1], "other"
        )
        scalar = {bool: not self.default, int: whole, float: 0.4375, str: text}
        return self.wrap(scalar[self.element])

    def wrap(self, scalar: Any) -> Any:
        """A scalar as the value of this setting."""
        return [scalar] * (self.length or 1) if self.is_list else scalar


def find_leaves(kind: type = Config, path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    hints = typing.get_type_hints(kind)
    for item in dataclasses.fields(kind):
        hint = hints[item.name]
        if dataclasses.is_dataclass(hint):
            yield from find_leaves(typing.cast(type, hint), (*path, item.name))
        elif not item.metadata["inherited"]:
            nullable = isinstance(hint, types.UnionType)
            if nullable:
                [hint] = [part for part in typing.get_args(hint) if part is not type(None)]
            yield Leaf((*path, item.name), hint, nullable, item)


def find_sections(kind: type = Config, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield (*path, name)
            yield from find_sections(typing.cast(type, hint), (*path, name))


LEAVES = list(find_leaves())
SECTIONS = list(find_sections())
each_leaf = pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.name)
validator = jsonschema.Draft202012Validator(json_schema(Config))


def nest(path: tuple[str, ...], value: Any) -> Any:
    for name in reversed(path):
        value = {name: value}
    return value


def get(config: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        config = getattr(config, name)
    return config


def complaints(values: Any) -> list[str]:
    """The lines that `parse_config` complains with."""
    with pytest.raises(UserError) as caught:
        parse_config(values)
    headline, *lines = str(caught.value).split("\n")
    assert headline == "The configuration has mistakes:"
    assert all(line.startswith("  - ") for line in lines)
    return [line[4:] for line in lines]


def merged(overlay: Path | None) -> dict[str, Any]:
    """The configuration as Snakemake makes it of config.yaml and --configfile."""
    config = load_configfile(str(DEFAULT))
    if overlay:
        update_config(config, load_configfile(str(overlay)))
    return config


# Single values


WRONG = {
    bool: ["yes", "true", 1, 0, 0.5, None],
    int: ["5", "", 1.5, True, math.nan, math.inf, None],
    float: ["much", "", "nan", "-inf", True, math.nan, math.inf, 10**400, None],
    str: [5, 0.5, True, None],
}


@each_leaf
def test_wrong_types_are_named(leaf: Leaf) -> None:
    for value in [*WRONG[leaf.element], {}, {"a": 1}, [[]], [{}]]:
        if value is None and leaf.nullable and not leaf.is_list:
            continue
        where = f"{leaf.name}[0]" if leaf.is_list else leaf.name
        lines = complaints(nest(leaf.path, leaf.wrap(value)))
        assert lines[0].startswith(f"{where}: expected "), value
        assert re.search(r"found .+; (write|give|choose|put it in quotes)", lines[0])


@each_leaf
def test_lists_and_scalars_are_not_exchanged(leaf: Leaf) -> None:
    plain = leaf.default
    if not leaf.is_list:
        assert complaints(nest(leaf.path, [plain]))[0].startswith(f"{leaf.name}: expected ")
        return
    scalar = 1 if plain is None else plain[0]
    [line] = complaints(nest(leaf.path, scalar))
    assert line.startswith(f"{leaf.name}: expected a list, found ")
    assert line.endswith(f"write [{json.dumps(scalar)}]")
    for value in [[], [scalar] * 9] if leaf.length else [[]]:
        assert complaints(nest(leaf.path, value))[0].startswith(f"{leaf.name}: expected a list of ")


def test_null_only_where_it_is_meant() -> None:
    for leaf in LEAVES:
        if leaf.nullable:
            assert get(parse_config(nest(leaf.path, None)), leaf.path) is None
        else:
            assert complaints(nest(leaf.path, None))[0].startswith(f"{leaf.name}: expected ")


@each_leaf
def test_ranges_are_closed_and_enforced(leaf: Leaf) -> None:
    for side, direction in (("low", -1), ("high", 1)):
        limit = leaf.item.metadata[side]
        if limit is None:
            continue
        beyond = limit + direction if leaf.element is int else math.nextafter(limit, direction * math.inf)
        accepted = get(parse_config(nest(leaf.path, leaf.wrap(limit))), leaf.path)
        assert accepted == (tuple(leaf.wrap(limit)) if leaf.is_list else limit)
        lines = complaints(nest(leaf.path, leaf.wrap(beyond)))
        assert all("is out of range; give" in line for line in lines)
        assert lines[0].startswith(f"{leaf.name}{'[0]' if leaf.is_list else ''}: ")


@pytest.mark.parametrize(
    "leaf", [leaf for leaf in LEAVES if leaf.item.metadata["choices"]], ids=lambda x: x.name
)
def test_choices(leaf: Leaf) -> None:
    for choice in leaf.item.metadata["choices"]:
        accepted = get(parse_config(nest(leaf.path, leaf.wrap(choice))), leaf.path)
        assert accepted == ((choice,) if leaf.is_list else choice)
    other = "qqq" if leaf.element is str else 77
    [line] = complaints(nest(leaf.path, leaf.wrap(other)))
    assert line.startswith(f"{leaf.name}{'[0]' if leaf.is_list else ''}: unknown value {json.dumps(other)}; ")
    assert all(str(choice) in line for choice in leaf.item.metadata["choices"])


@pytest.mark.parametrize("path", SECTIONS, ids=".".join)
@pytest.mark.parametrize("value", [5, "text", None, [], True], ids=repr)
def test_section_given_as_something_else(path: tuple[str, ...], value: Any) -> None:
    [line] = complaints(nest(path, value))
    found = f"expected a section of settings, found {json.dumps(value)}"
    assert line == f"{'.'.join(path)}: {found}; write keys and values below it, or take it out"


@pytest.mark.parametrize("value", [5, "text", None, []], ids=repr)
def test_configuration_is_no_mapping(value: Any) -> None:
    assert complaints(value) == [
        f"the configuration: expected a section of settings, found {json.dumps(value)}; "
        "write keys and values below it, or take it out"
    ]


@each_leaf
def test_a_value_arrives_where_it_belongs_and_nowhere_else(leaf: Leaf) -> None:
    config = parse_config(nest(leaf.path, leaf.other))
    expected = tuple(leaf.other) if leaf.is_list else leaf.other
    assert get(config, leaf.path) == expected != leaf.default
    assert all(get(config, other.path) == other.default for other in LEAVES if other != leaf)
    for section in {path[0] for path in SECTIONS}:
        same = section_json(config, section) == section_json(Config(), section)
        # all trainings inherit the seed
        assert same == (section not in (TRAININGS if leaf.name == "seed" else leaf.path[:1]))


def test_numbers_in_other_spellings() -> None:
    # YAML 1.1 reads 1e-4 as text, and 2.0 for a whole number is clear
    text = "seed: 2.0\ntrain_cam: {learning_rate: 1e-4, epochs: 3, scale: [5e-1, 1]}"
    assert yaml.safe_load(text)["train_cam"]["learning_rate"] == "1e-4"
    config = parse_config(yaml.safe_load(text))
    assert config.train_cam.learning_rate == 1e-4
    assert config.train_cam.scale == (0.5, 1.0)
    assert (config.seed, type(config.seed)) == (2, int)
    assert (config.train_cam.epochs, type(config.train_cam.epochs)) == (3.0, float)


def test_messages_in_full() -> None:
    assert complaints({"erase": {"threshold": 1.5}}) == [
        "erase.threshold: 1.5 is out of range; give 0.01 to 1"
    ]
    assert complaints({"shards": "many"}) == [
        'shards: expected a whole number, found "many"; give 1 to 10000'
    ]
    assert complaints({"erase": {"flip": "on"}}) == [
        'erase.flip: expected true or false, found "on"; write true or false without quotes'
    ]
    assert complaints({"run": 2}) == ["run: expected text, found 2; put it in quotes"]
    assert complaints({"dataset": {"root": ""}}) == [
        'dataset.root: "" is no usable text; it must not be empty, begin with a dash, or hold braces or '
        "control characters"
    ]
    assert complaints({"erase": {"scales": 1}}) == ["erase.scales: expected a list, found 1; write [1]"]
    assert complaints({"erase": {"scales": "0.5, 1"}})[0].endswith("write [0.5, 1]")
    assert complaints({"dataset": {"classes": "cat, dog"}})[0].endswith('write ["cat", "dog"]')
    assert complaints({"evidence": {"refine": {"dilation": [1]}}}) == [
        "evidence.refine.dilation: unknown setting 'dilation'; did you mean dilations?"
    ]
    assert complaints({"dataset": {"kind": "demoo"}}) == [
        'dataset.kind: unknown value "demoo"; did you mean demo?'
    ]
    assert complaints({"ablation": {"rows": ["cam", "filter_of"]}}) == [
        'ablation.rows[1]: unknown value "filter_of"; did you mean filter_off?'
    ]
    assert complaints({"qqqq": 1})[0].startswith("qqqq: unknown setting 'qqqq'; known are run, seed, ")


def test_long_and_strange_values_are_shown_short() -> None:
    circle: list[Any] = []
    circle.append(circle)
    for value in ["x" * 1000, circle, {(1, 2): 3}, {"a": object()}, {1: 2}]:
        [line] = complaints({"seed": value})
        assert line.startswith("seed: expected a whole number, found ")
        assert len(line) < 120


def test_a_typo_names_the_nearest_key() -> None:
    for path in [*(leaf.path for leaf in LEAVES), *SECTIONS]:
        typo = (*path[:-1], path[-1] + "x")
        [line] = complaints(nest(typo, 1))
        assert line == f"{'.'.join(typo)}: unknown setting {typo[-1]!r}; did you mean {path[-1]}?"
        assert not validator.is_valid(nest(typo, 1))


def test_all_problems_at_once() -> None:
    lines = complaints(
        {
            "sead": 1,
            "shards": 0,
            "erase": {"scales": [1, "a", 99], "flip": 1, "thresold": 1},
            "train_cam": {"seed": 1, "backbone": {"output_stride": 12}},
            3: 4,
        }
    )
    starts = [line.split(":")[0] for line in lines]
    assert sorted(starts) == [
        "3",
        "erase.flip",
        "erase.scales[1]",
        "erase.scales[2]",
        "erase.thresold",
        "sead",
        "shards",
        "train_cam.backbone.output_stride",
        "train_cam.seed",
    ]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("voc_url", "ftp://host/file.tar", "is no address; write http:// or https:// and so on"),
        ("voc_url", "host/file.tar", "is no address; write http:// or https:// and so on"),
        ("sbd_url", "file:///etc/passwd", "is no address; write http:// or https:// and so on"),
        ("sbd_url", "http://host/a b", "is no address; write http:// or https:// and so on"),
        ("voc_md5", "6cd6e144", "is no MD5; write its 32 hexadecimal digits"),
        ("sbd_md5", "x" * 32, "is no MD5; write its 32 hexadecimal digits"),
    ],
)
def test_addresses_and_checksums_of_a_download(name: str, value: str, problem: str) -> None:
    assert complaints({"download": {name: value}}) == [f'download.{name}: "{value}" {problem}']


# What spans several settings


@pytest.mark.parametrize(
    ("section", "size", "stride", "nearest"),
    [
        ("train_cam", 512, 16, "497 and 513"),
        ("train_cam", 514, 16, "513 and 529"),
        ("train_cam", 34, 32, "33 and 65"),
        ("train_ecs", 320, 16, "305 and 321"),
        ("train_ecs", 329, 16, "321 and 337"),
        ("train_segmenter", 224, 8, "217 and 225"),
        ("train_segmenter", 4096, 32, "4065 and 4097"),
    ],
)
def test_crop_size_fits_the_output_stride(section: str, size: int, stride: int, nearest: str) -> None:
    owner = "train_cam" if section == "train_ecs" else section
    # sides that fit any stride, so that one training alone is wrong
    values: dict[str, Any] = {name: {"crop_size": 65} for name in TRAININGS}
    values[section]["crop_size"] = size
    values[owner]["backbone"] = {"output_stride": stride}
    assert complaints(values) == [
        f"{section}.crop_size: {size} is no multiple of {owner}.backbone.output_stride ({stride}) plus one; "
        f"the nearest are {nearest}"
    ]
    for valid in map(int, nearest.split(" and ")):
        values[section]["crop_size"] = valid
        assert getattr(parse_config(values), section).crop_size == valid


@pytest.mark.parametrize("section", TRAININGS)
def test_scale_is_ordered(section: str) -> None:
    [line] = complaints({section: {"scale": [1.5, 0.5]}})
    assert line.startswith(f"{section}.scale: 1.5 is larger than 0.5")
    assert getattr(parse_config({section: {"scale": [1, 1]}}), section).scale == (1, 1)


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        (["cat", "dog", "cat"], "cat stand more than once"),
        (["cat", "background"], "background is always class 0"),
        (["cat", "a;b"], '"a;b" is no name'),
        (["cat", "a/b"], '"a/b" is no name'),
        (["cat", "dog "], '"dog " is no name'),
        ([f"class{number}" for number in range(255)], "255 classes"),
    ],
)
def test_class_names(classes: list[str], told: str) -> None:
    [line] = complaints({"dataset": {"classes": classes}})
    assert line.startswith("dataset.classes: ")
    assert told in line


def test_class_names_may_be_words_of_any_language() -> None:
    classes = ("potted plant", "Käfer", "007", "None")
    assert parse_config({"dataset": {"classes": list(classes)}}).dataset.classes == classes


@pytest.mark.parametrize(
    "run", ["", ".", "..", ".hidden", "-x", "a b", "a/b", "a\\b", "{a}", "a'b", "$a", "a\n", "a" * 101]
)
def test_run_must_be_a_plain_folder_name(run: str) -> None:
    [line] = complaints({"run": run})
    assert re.match(r'run: ".*["…] (must be a folder name; take 1 to 100|is no usable text; it must)', line)


@pytest.mark.parametrize("run", ["voc", "tau_0.5", "2", "seed-1", "größer"])
def test_run_names(run: str) -> None:
    assert parse_config({"run": run}).run == run


# Sections on their own


def test_seed_comes_from_the_top_level() -> None:
    for section in TRAININGS:
        [line] = complaints({section: {"seed": 1}})
        assert line.startswith(f"{section}.seed: ")
        assert not validator.is_valid({section: {"seed": 1}})
    config = parse_config({"seed": 7, "demo": {"seed": 3}})
    for section in TRAININGS:
        assert json.loads(section_json(config, section))["seed"] == 7
    assert json.loads(section_json(config, "demo"))["seed"] == 3
    assert "seed" not in json.loads(section_json(config, "erase"))


@pytest.mark.parametrize("name", [path[0] for path in SECTIONS if len(path) == 1])
def test_section_json_comes_back_whole_and_sorted(name: str) -> None:
    config = parse_config({"seed": 5})
    text = section_json(config, name)
    values = json.loads(text)
    assert text == json.dumps(values, sort_keys=True, ensure_ascii=False)
    section = getattr(config, name)
    if name in TRAININGS:
        section = dataclasses.replace(section, seed=5)
    assert parse(type(section), values, name) == section


def test_section_json_does_not_depend_on_spelling() -> None:
    one = parse_config({"train_cam": {"epochs": 5, "scale": [1, 2], "learning_rate": "1e-2"}})
    two = parse_config({"train_cam": {"learning_rate": 0.01, "scale": (1.0, 2.0), "epochs": 5.0}})
    assert section_json(one, "train_cam") == section_json(two, "train_cam")


def test_errors_of_a_section_name_it() -> None:
    with pytest.raises(UserError, match=r"settings of erase have mistakes:\n  - erase.threshold: "):
        parse(settings.Erase, {"threshold": 2}, "erase")
    with pytest.raises(UserError, match=r"The settings have mistakes:\n  - threshold: "):
        parse(settings.Erase, {"threshold": 2})


def test_help_has_every_setting() -> None:
    for leaf in LEAVES:
        if len(leaf.path) == 1:
            continue
        rows = {name: row for name, *row in describe(type(getattr(Config(), leaf.path[0])))}
        default, text = rows[".".join(leaf.path[1:])]
        assert text.startswith(leaf.item.metadata["text"])
        assert default == leaf.default


def test_every_setting_is_explained_and_bounded() -> None:
    for leaf in LEAVES:
        metadata = leaf.item.metadata
        assert len(metadata["text"]) > 3, leaf.name
        if leaf.element in (int, float) and not metadata["choices"]:
            assert None not in (metadata["low"], metadata["high"]), leaf.name


def test_nothing_heavy_is_imported() -> None:
    code = "import ecsnet.settings, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not {"torch", "timm", "numpy", "pandas", "yaml", "PIL"} & set(loaded.stdout.split())


# The files


def test_defaults_are_config_yaml() -> None:
    assert parse_config(merged(None)) == Config()


def test_config_yaml_has_every_setting() -> None:
    config = merged(None)
    for leaf in LEAVES:
        values: Any = config
        for name in leaf.path:
            assert name in values, leaf.name
            values = values[name]


def test_every_value_of_config_yaml_has_a_comment() -> None:
    lines = DEFAULT.read_text(encoding="utf-8").split("\n")
    keys = 0
    for before, line in itertools.pairwise(lines):
        if re.match(r" *\w+: \S| *classes:", line):
            keys += 1
            assert before.strip().startswith("# "), f"no comment says how to choose {line!r}"
    assert keys == len(LEAVES)


@pytest.mark.parametrize("overlay", [None, *OVERLAYS], ids=lambda path: path.stem if path else "config")
def test_configs_pass_parser_and_schema(overlay: Path | None) -> None:
    values = merged(overlay)
    config = parse_config(values)
    validator.validate(values)
    if overlay:
        assert config.run == overlay.stem
        assert config != Config()
    for section in TRAININGS:
        values[section]["epoch"] = 3
        with pytest.raises(UserError, match=rf"{section}\.epoch: .* did you mean epochs\?"):
            parse_config(values)
        with pytest.raises(jsonschema.ValidationError, match="epoch"):
            validator.validate(values)
        del values[section]["epoch"]


@pytest.mark.parametrize("path", [DEFAULT, *OVERLAYS], ids=lambda path: path.stem)
def test_configs_name_their_schema(path: Path) -> None:
    first = path.read_text(encoding="utf-8").split("\n")[0]
    assert (path.parent / first.split("$schema=")[1]).resolve() == SCHEMA


def test_schema_file_is_current() -> None:
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    assert schema.pop("$schema") == jsonschema.Draft202012Validator.META_SCHEMA["$id"]
    assert schema == json_schema(Config), "run `make schema`"
    jsonschema.Draft202012Validator.check_schema(schema)


def test_the_reference_is_current() -> None:
    assert (ROOT / "docs/configuration.md").read_text(encoding="utf-8") == configuration(), (
        "run `make schema`"
    )
    for leaf in LEAVES:
        if not leaf.item.metadata["inherited"]:
            assert f"| `{'.'.join(leaf.path[1:] or leaf.path)}` | `" in configuration()


def test_schema_is_closed_and_described() -> None:
    def check(schema: dict[str, Any], where: str) -> None:
        assert schema["description"], where
        if schema.get("type") == "object":
            assert schema["additionalProperties"] is False, where
            for name, part in schema["properties"].items():
                check(part, f"{where}.{name}")

    check(json_schema(Config), "")


def test_demo_config_names_the_classes_drawn() -> None:
    from ecsnet.scenes import DEMO_CLASSES

    assert parse_config(merged(ROOT / "config/demo.yaml")).dataset.classes == tuple(DEMO_CLASSES)


def test_lists_of_minivoc() -> None:
    config = parse_config(merged(ROOT / "config/minivoc.yaml"))
    ids = {
        name: (ROOT / name).read_text().split()
        for name in (config.dataset.train_list, config.dataset.val_list)
    }
    train, val = ids.values()
    assert (len(set(train)), len(set(val))) == (len(train), len(val)) == (321, 123)
    assert not set(train) & set(val)
    assert config.score.train_list == config.dataset.train_list


# Whatever comes


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(sorted({name for leaf in LEAVES for name in leaf.path}))
config_like = st.recursive(
    json_values,
    lambda inner: st.dictionaries(names | st.text(max_size=8) | st.integers(), inner, max_size=6),
    max_leaves=12,
)


@given(config_like)
def test_anything_gives_a_config_or_a_user_error(values: Any) -> None:
    # any other exception fails the test
    with contextlib.suppress(UserError):
        assert isinstance(parse_config(values), Config)


@st.composite
def settings_with_values(draw: st.DrawFn) -> tuple[Leaf, Any]:
    """A setting, and a value that is often but not always one of its values."""
    leaf = draw(st.sampled_from(LEAVES))
    metadata = leaf.item.metadata
    scalar: st.SearchStrategy = json_values
    if metadata["choices"]:
        scalar |= st.sampled_from(metadata["choices"])
    elif leaf.element in (int, float):
        scalar |= st.integers(int(metadata["low"]) - 1, int(metadata["high"]) + 1)
        scalar |= st.floats(metadata["low"] - 0.5, metadata["high"] + 0.5)
    else:
        scalar |= st.booleans() if leaf.element is bool else st.text()
    return leaf, draw(scalar | st.lists(scalar, max_size=4))


@given(settings_with_values())
def test_parser_and_schema_accept_the_same(case: tuple[Leaf, Any]) -> None:
    leaf, value = case
    if leaf.element is float and any(isinstance(part, str) for part in [value, *_items(value)]):
        return  # the parser alone takes 1e-4 as text, see above
    try:
        parse(Config, nest(leaf.path, value))
        accepted = True
    except UserError:
        accepted = False
    assert validator.is_valid(nest(leaf.path, value)) == accepted


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
