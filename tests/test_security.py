"""Data and settings of others: nothing in them is ever run, by Python or by a shell."""

import ast
import html
import io
import itertools
import json
import os
import pickle
import re
import string
import subprocess
import sys
import tarfile
import tokenize
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import voc_archives
import yaml
from hypothesis import given
from hypothesis import strategies as st
from snakemake.common.configfile import load_configfile
from snakemake_interface_common.exceptions import WorkflowError
from voc_folder import write_annotation, write_list, write_picture

from ecsnet import download, voc
from ecsnet.errors import UserError
from ecsnet.palette import write_mask
from ecsnet.settings import Backbone, Download, Training, parse_config
from ecsnet.store import ShardReader
from ecsnet.tables import read_classes, read_images, read_labels

REPOSITORY = Path(__file__).resolve().parents[1]
MODULES = sorted((REPOSITORY / "ecsnet").rglob("*.py"))
RULES = [REPOSITORY / "Snakefile", *sorted((REPOSITORY / "workflow/rules").glob("*.smk"))]


# Pickles


class Payload:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Payload]:
    """What must not be unpickled; checks that it was not, and that it would have been noticed."""
    payload = Payload(tmp_path / "trapped")
    yield payload
    assert not payload.folder.exists()
    pickle.loads(pickle.dumps(payload))
    assert payload.folder.is_dir()


def test_a_pickle_in_a_shard_is_refused(tmp_path, trap):
    path = tmp_path / "1-of-1.npz"
    np.savez(path, **{"a/scores": np.array([trap], dtype=object)})
    with pytest.raises(UserError, match=r"1-of-1\.npz: damaged or cut off"):
        ShardReader([path]).get("a", "scores")
    path.write_bytes(pickle.dumps(trap))
    with pytest.raises(UserError, match=r"1-of-1\.npz: damaged or cut off"):
        ShardReader([path])


def test_a_pickle_for_a_table_is_refused(tmp_path, trap):
    for protocol in range(6):
        (tmp_path / "table").write_bytes(pickle.dumps(trap, protocol))
        for read in (lambda path: read_images(path, ["cat"]), read_labels):
            with pytest.raises(UserError, match=r"table: "):
                read(tmp_path / "table")


def pickles(path: Path, trap: Payload) -> Iterator[None]:
    """Writes what `torch.save` and `pickle.dump` make, one after the other, to `path`."""
    import torch

    torch.save({"network.weight": trap}, path)
    yield
    torch.save({"network.weight": trap}, path, _use_new_zipfile_serialization=False)
    yield
    path.write_bytes(pickle.dumps(trap))
    yield


def test_pickled_weights_are_refused(tmp_path, trap):
    from ecsnet.backbone import read_weights
    from ecsnet.networks import Classifier, load_network

    path = tmp_path / "weights.safetensors"
    for _ in pickles(path, trap):
        with pytest.raises(UserError, match=r"weights\.safetensors: not a readable safetensors file"):
            read_weights(path)
        with pytest.raises(UserError, match=r"weights\.safetensors: damaged weights file .*; delete it"):
            load_network(path, Classifier)


def test_a_pickled_resume_state_is_refused(tmp_path, trap, capsys):
    import safetensors.torch
    import torch

    from ecsnet.resume import ResumeFile, State
    from ecsnet.training import Job, Learner

    source = tmp_path / "train.csv"
    source.write_text("input")
    out = tmp_path / "weights.safetensors"
    network = torch.nn.Linear(1, 1)
    settings, runtime = Training(), parse_config({}).runtime
    job = Job("train_cam", network, [1], None, settings, runtime, 1, [source], out, out.with_suffix(".csv"))
    resume, learner = ResumeFile(job), Learner(job, network)
    for _ in pickles(resume.path, trap):
        assert resume.load(learner) == State()
        assert "damaged" in capsys.readouterr().out
    safetensors.torch.save_file({"network.weight": torch.ones(1, 1)}, resume.path)  # of no training of ours
    assert resume.load(learner) == State()
    assert "the training starts anew" in capsys.readouterr().out


BROKEN_METADATA = {
    "none": None,
    "no JSON": "{",
    "a list": "[]",
    "no construction": '{"kind": "Classifier"}',
    "unknown construction": '{"kind": "Classifier", "spec": {"backbone": {}, "payload": 1}}',
    "unknown backbone": '{"kind": "Classifier", "spec": {"backbone": {"name": "../x"}, "classes": ["a"]}}',
    "other tensors": '{"kind": "Classifier", "spec": {"backbone": {"name": "resnet18"}, "classes": ["a"]}}',
}


@pytest.mark.parametrize("about", BROKEN_METADATA.values(), ids=BROKEN_METADATA)
def test_weights_of_no_network_of_ours_are_refused(about, tmp_path):
    import torch
    from safetensors.torch import save_file

    from ecsnet.networks import Classifier, load_network

    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.zeros(1)}, path, about and {"ecsnet": about})
    with pytest.raises(UserError):
        load_network(path, Classifier)


@pytest.mark.parametrize("tag", ["object/apply:os.mkdir", "object/new:os.mkdir", "object:os.mkdir"])
def test_a_configuration_that_calls_python_is_refused(tag, tmp_path, trap):
    path = tmp_path / "config.yaml"
    path.write_text(f"seed: !!python/{tag} ['{trap.folder}']\n")
    with pytest.raises(WorkflowError, match="not valid JSON or YAML"):
        load_configfile(str(path))


# XML


def test_no_entity_is_ever_resolved(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("cat")
    declarations = [
        f'<!ENTITY x SYSTEM "{secret.as_uri()}">',
        f'<!ENTITY % y SYSTEM "{secret.as_uri()}"> %y; <!ENTITY x "cat">',
        '<!ENTITY x "cat">',
    ]
    for declaration in declarations:
        for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-7"):
            path = tmp_path / "a.xml"
            text = f"<!DOCTYPE a [{declaration}]><annotation><object><name>&x;</name></object></annotation>"
            path.write_bytes(f'<?xml version="1.0" encoding="{encoding}"?>{text}'.encode(encoding))
            with pytest.raises(UserError, match=r"a\.xml: (declares|is not UTF-8|broken XML)"):
                voc.read_annotation(path)


# Archives


class Link(tarfile.TarInfo):
    """A link in an archive."""

    def __init__(self, name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> None:
        super().__init__(name)
        self.type, self.linkname = kind, target


VOC_FOLDER = "VOCdevkit/VOC2012"
HOSTILE_ARCHIVES = {
    "absolute": ({"/ESCAPED": b"1"}, "has an absolute name"),
    "parent": ({f"{VOC_FOLDER}/JPEGImages/../../../../ESCAPED": b"1"}, "leaves its folder"),
    "link": ({"": Link(f"{VOC_FOLDER}/JPEGImages", "../../../..")}, "is a link that leaves its folder"),
    "hard link": ({"": Link(f"{VOC_FOLDER}/a", "/etc/passwd", tarfile.LNKTYPE)}, "is a link that leaves"),
    "device": ({"": Link("null", "", tarfile.CHRTYPE)}, "is no plain file, but a device"),
}  # fmt: skip


@pytest.mark.parametrize(("members", "problem"), HOSTILE_ARCHIVES.values(), ids=HOSTILE_ARCHIVES)
@pytest.mark.parametrize("name", [voc_archives.VOC, voc_archives.SBD])
def test_an_archive_that_leaves_its_folder_is_refused(name, members, problem, tmp_path):
    """By the stage, whichever of the two it is, behind members that are right; more in test_archives.py."""
    archives = voc_archives.Archives()
    files = voc_archives.voc_files() if name == voc_archives.VOC else voc_archives.sbd_files()
    archives.content[name] = voc_archives.packed({**files, **members}, "w:gz")
    root = tmp_path / "a" / "b" / "c"
    archives.write(root / "archives")
    settings = Download(**archives.settings(archives=str(root / "archives"), masks=True))
    with pytest.raises(UserError, match=rf"{name}: refused, because its member '.*' {problem}"):
        download.run(settings, root=root, out=root / "download.json")
    assert not list(tmp_path.rglob("*ESCAPED*"))
    assert not Path("/ESCAPED").exists()
    left = {path.name for path in root.iterdir()}
    assert left <= {"archives", "JPEGImages", "Annotations", "ImageSets", "SegmentationClass"}
    assert left == {"archives"} or name == voc_archives.SBD
    assert not [path for path in root.rglob("*") if path.is_symlink()]


# What the code may use

FORBIDDEN_MODULES = set("cloudpickle dill joblib marshal pickle runpy shelve tarfile".split())
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__", "breakpoint"}
FORBIDDEN_ATTRIBUTES = set(
    "system popen getoutput getstatusoutput create_subprocess_shell read_pickle to_pickle extract extractall "
    "unpack_archive unsafe_load full_load".split()
)


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


def offences(tree: ast.AST) -> Iterator[str]:
    """What runs text as code, loads pickles or unpacks archives in a syntax tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            names = {module.split(".")[0], *(alias.name.split(".")[0] for alias in node.names)}
            yield from names & FORBIDDEN_MODULES
        elif isinstance(node, ast.Name) and node.id in FORBIDDEN_NAMES:
            yield node.id
        elif isinstance(node, ast.Attribute) and node.attr in FORBIDDEN_ATTRIBUTES:
            yield node.attr
        elif isinstance(node, ast.Call):
            yield from call_offences(node)


def call_offences(node: ast.Call) -> Iterator[str]:
    given = {word.arg: ast.unparse(word.value) for word in node.keywords}
    if given.get("shell", "False") != "False" or given.get("allow_pickle", "False") != "False":
        yield ast.unparse(node)
    if called(node) in ("np.load", "numpy.load", "yaml.load"):
        yield called(node)
    # of torch's own format tensors alone may be read, from an installed package
    if called(node) in ("torch.load", "load") and given.get("weights_only") != "True":
        yield ast.unparse(node)
    # numpy's default is safe, but it is said all the same
    if called(node).endswith(("read_array", "write_array")) and given.get("allow_pickle") != "False":
        yield ast.unparse(node)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_no_module_runs_text_or_loads_pickles(path):
    # one module looks into archives, and never has tarfile unpack them; another writes them
    allowed = {"tarfile"} if path.name in ("archives.py", "packing.py") else set()
    if path.name == "completion.py":
        allowed = {"shtab.complete(parser, shell=shell)"}  # the name of a shell, and nothing runs
    assert set(offences(ast.parse(path.read_text()))) == allowed


@pytest.mark.parametrize(
    "text",
    [
        "import pickle", "from pickle import loads", "eval(x)", "f = exec", "torch.load(x)", "np.load(x)",
        "torch.load(x, weights_only=False)", "yaml.load(x, Loader=yaml.Loader)",
        "subprocess.run(x, shell=True)",
        "os.system(x)", "archive.extractall()", "pd.read_pickle(x)", "np.lib.format.read_array(x)",
        "np.load(x, allow_pickle=True)", "import xml.sax, tarfile",
    ],
)  # fmt: skip
def test_what_is_forbidden_would_be_noticed(text):
    assert list(offences(ast.parse(text)))


def test_one_module_each_reads_xml_pictures_archives_matlab_files_and_the_network():
    for names, *allowed in (
        (r"fromstring\(|ET\.parse|XMLParser", "voc.py"),
        (r"Image\.open\(", "pictures.py"),
        (r"tarfile\.|zipfile\.Path|gzip\.", "archives.py", "packing.py"),  # the second only writes
        (r"loadmat\(|h5py", "sbd.py"),
        (r"urllib\.request|http\.client|urlopen|requests\.", "transfer.py"),
        (r"create_connection", "machine.py"),  # and sends nothing
    ):
        assert [path.name for path in MODULES if re.search(names, path.read_text())] == allowed
    assert re.findall(r'open\(.*?"(\w+)"', (REPOSITORY / "ecsnet/packing.py").read_text()) == ["wb", "w"]


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_no_rule_runs_text_as_python(path):
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    names = {token.string for token in tokens if token.type == tokenize.NAME}
    assert not names & (FORBIDDEN_MODULES | FORBIDDEN_NAMES | FORBIDDEN_ATTRIBUTES)


# The shell

HARMLESS = (
    r"threads",
    r"log(\.\w+)?",  # below logs/<run>
    r"(input|output)(\.\w+)?",  # below results/<run>
    r"params\.folder",  # likewise
    r"params\.(optional|scores)",  # inputs, where there are any, quoted where they are joined
    r"params\.split",  # train, val or other
    r"RESULTS",
    r"wildcards\.(scatteritem|round|what|part)",  # constrained
    r"params\.(only|imagenet)",  # options, quoted where they are made
)
"""What may stand in a shell line without `:q`: no text of a user but `run`, which is a plain name."""


def shell_lines(path: Path) -> Iterator[str]:
    """The commands of the rules in a file."""
    for block in re.findall(r"\n    shell:\n((?:        .*\n)+)", path.read_text() + "\n"):
        yield ast.literal_eval(f"({block})")


def test_every_text_of_a_user_is_quoted_in_shell_lines():
    lines = [line for path in RULES for line in shell_lines(path)]
    assert len(lines) >= 15
    for line in lines:
        for _, field, spec, _ in string.Formatter().parse(line):
            if field and spec != "q":
                assert any(re.fullmatch(known, field) for known in HARMLESS), f"{{{field}}} in {line}"
    text = "".join(path.read_text() for path in RULES)
    assert "shell(" not in text  # commands stand in rules alone
    for function in ("imagenet_option", "list_option"):
        assert "shlex.quote(" in text.split(f"def {function}(")[1].split("\ndef ")[0]
    assert "shlex.join(" in text.split("def option(")[1].split("\ndef ")[0]
    for name in ("scatteritem", "round", "what", "part"):
        assert re.search(rf"^ +{name}=(r\"\\d\+|\"\|\"\.join)", text, re.MULTILINE), name


@given(st.text(max_size=8) | st.from_regex(r"\A\w[\w.-]*[\s;&|$`'\"(){}<>*?\\]\Z"))
def test_a_name_that_a_shell_would_read_is_no_name(name):
    plain = re.fullmatch(r"\w[\w.-]*", name) is not None
    for values in ({"run": name}, {"train_cam": {"backbone": {"name": name}}}):
        try:
            parse_config(values)
            assert plain
        except UserError:
            assert not plain
    assert Backbone().name


EVIL = "a b'\"; touch PWNED; $(touch PWNED) `touch PWNED` & | > PWNED * ? \\ #~!é"
CONFIG = {
    "run": "evil",
    "rounds": 2,
    "shards": 2,
    "dataset": {"kind": "demo", "root": f"root {EVIL}", "train_list": f"./t {EVIL}.txt", "val_list": EVIL},
    "train_cam": {"backbone": {"weights": f"cam {EVIL}.safetensors"}},
    "train_segmenter": {"backbone": {"weights": f"segmenter {EVIL}.safetensors"}},
    "score": {"train_list": f"./s {EVIL}.txt", "train_masks": f"t {EVIL}", "val_masks": f"v {EVIL}"},
    "supervised": {"enabled": True, "masks": f"supervised {EVIL}"},
}
# Snakemake's lines, run by bash with a stand-in that writes down what it was given
STAND_IN = r"""
ecsnet() { printf '%s\0' "$@" >> arguments; printf '\n' >> arguments; }
tee() { cat; }
"""


def snakemake(folder: Path, config: dict, *arguments: str) -> str:
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command = [
        sys.executable, "-m", "snakemake", *arguments, "--snakefile", str(REPOSITORY / "Snakefile"),
        "--cores", "1", "--configfile", "config.yaml",
    ]  # fmt: skip
    result = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=200, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-3000:]
    return result.stdout


def test_a_shell_hands_on_every_text_as_it_stands(tmp_path):
    evil = parse_config(CONFIG)
    for section in (evil.train_cam, evil.train_segmenter):
        (tmp_path / section.backbone.weights).touch()
    output = snakemake(tmp_path, CONFIG, "--dry-run", "--printshellcmds", "--forceall")
    lines = re.findall(r"^.*?(ecsnet \w+ --.*)$", output, re.MULTILINE)
    (tmp_path / "run.sh").write_text("\n".join([STAND_IN, *lines]))
    subprocess.run(["bash", "run.sh"], cwd=tmp_path, check=True, timeout=60)
    calls = [line.split("\0") for line in (tmp_path / "arguments").read_text().split("\n")[:-1]]
    assert len(calls) == len(lines) > 25
    assert {words[0] for words in calls} >= {"demo", "prepare", "check_masks", "train_cam", "figures"}
    masks = set()
    for words in calls:
        # the value behind each option
        given = dict(itertools.pairwise(words))
        assert given.get("--root", evil.dataset.root) == evil.dataset.root, words
        if "--imagenet" in given:
            assert given["--imagenet"] == getattr(evil, words[0]).backbone.weights
        if words[0] == "check_masks":
            masks.add((given["--masks"], given["--list-name"]))
        if words[0] == "prepare":
            assert json.loads(given["--settings"])["train_list"] == evil.dataset.train_list
    assert masks == {
        (evil.score.train_masks, evil.score.train_list),
        (evil.score.val_masks, evil.dataset.val_list),
        (evil.supervised.masks, evil.dataset.train_list),
    }
    assert not list(tmp_path.rglob("PWNED*"))


def test_a_run_on_texts_that_a_shell_would_read(tmp_path):
    classes = ["$(touch PWNED)", "a 'b' \"c\" & |", "`touch PWNED` > PWNED"]
    ids = [f"$(touch${{IFS}}PWNED{number})" for number in range(3)]
    root, masks = tmp_path / EVIL, f"masks {EVIL}"
    for value, (name, image_id) in enumerate(zip(classes, ids, strict=True), 1):
        write_picture(root / "JPEGImages" / f"{image_id}.jpg")
        write_annotation(root, image_id, (html.escape(name),))
        write_mask(root / masks / f"{image_id}.png", np.full((8, 12), value, np.uint8))
    write_list(root, EVIL, "\n".join(ids))
    config = {
        "run": "evil",
        "dataset": {"root": EVIL, "train_list": EVIL, "val_list": EVIL, "classes": classes},
        "score": {"train_list": EVIL, "train_masks": masks},
    }
    snakemake(tmp_path, config, "results/evil/check_masks/train.csv")
    results = tmp_path / "results/evil"
    assert read_classes(results / "prepare/classes.txt") == classes
    records = read_images(results / "prepare/train.csv", classes)
    assert [(record.id, record.tags) for record in records] == list(zip(ids, [(1,), (2,), (3,)], strict=True))
    assert [label.id for label in read_labels(results / "check_masks/train.csv")] == ids
    assert not list(tmp_path.rglob("PWNED*"))  # the ids' own files begin otherwise
