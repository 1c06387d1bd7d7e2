import json
import shutil

import pytest

from ecsnet import digest
from ecsnet.cli import STAGES


@pytest.fixture
def package(tmp_path):
    copy = tmp_path / "ecsnet"
    shutil.copytree(digest.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def edit(package, module, old, new):
    path = package / f"{module}.py"
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_a_digest_of_its_own(stage):
    others = {digest.code_digest(other) for other in STAGES if other != stage}
    assert digest.code_digest(stage) not in others


def test_modules_are_followed():
    assert {"erase", "cam", "views", "networks", "backbone", "store"} <= digest.modules_of("erase")
    assert "training" not in digest.modules_of("erase")
    assert not digest.modules_of("train_cam") & digest.NO_RESULT


@pytest.mark.parametrize(
    ("module", "old", "new", "changed"),
    [
        ("cam", '"""Class activation maps, and', '"""CAMs, and', False),
        (
            "cam",
            "return cams.amax(0) >= threshold",
            "# why\n    return (cams.amax(0)\n        >= threshold)",
            False,
        ),
        ("cam", "return cams.amax(0) >= threshold", "return cams.amax(0) > threshold", True),
        ("views", "return max(1, round(", "return max(2, round(", True),
        ("settings", "class Erase(Views):", "class Erase(Views):\n    other = 1\n", False),
        ("training", "HISTORY_ROWS = 50", "HISTORY_ROWS = 51", False),
    ],
)
def test_what_changes_the_digest_of_erase(package, module, old, new, changed):
    before = digest.code_digest("erase", package)
    edit(package, module, old, new)
    assert (digest.code_digest("erase", package) != before) == changed


def test_a_digest_tells_which_module_changed(package):
    before = json.loads(digest.code_digest("erase", package))
    edit(package, "cam", "return cams.amax(0) >= threshold", "return cams.amax(0) > threshold")
    after = json.loads(digest.code_digest("erase", package))
    assert list(after) == sorted(f"ecsnet/{name}.py" for name in digest.modules_of("erase"))
    assert {name for name in after if after[name] != before[name]} == {"ecsnet/cam.py"}
