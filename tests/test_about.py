"""What tells others about this software: how to cite it, how to find it, what changed."""

import datetime
import re
import tomllib

import yaml
from conftest import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
# of the Citation File Format's schema 1.2.0, which knows no other keys
KEYS = set(
    "abstract authors cff-version commit contact date-released doi identifiers keywords license license-url "
    "message preferred-citation references repository repository-artifact repository-code title type url "
    "version".split()
)
PERSON = {
    "affiliation",
    "alias",
    "email",
    "family-names",
    "given-names",
    "name-particle",
    "name-suffix",
    "orcid",
}


def test_the_citation_file_is_valid():
    assert set(CITATION) <= KEYS
    assert set(CITATION) >= {"authors", "cff-version", "message", "title"}
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["type"] in ("software", "dataset")
    assert all("name" in author or set(author) <= PERSON for author in CITATION["authors"])
    assert len(set(CITATION["keywords"])) == len(CITATION["keywords"])
    assert (CITATION["version"], CITATION["license"]) == (PROJECT["version"], PROJECT["license"])


def test_the_paper_is_a_reference():
    [paper] = CITATION["references"]
    assert set(paper) >= {"authors", "title", "type"}
    assert [author["family-names"] for author in paper["authors"]] == ["Sun", "Shi", "Zhang", "Huang"]
    assert all(set(author) <= PERSON for author in paper["authors"])
    assert (paper["type"], set(paper["conference"])) == ("conference-paper", {"name"})
    assert (paper["year"], paper["month"], paper["start"], paper["end"]) == (2021, 10, 7283, 7292)
    assert re.fullmatch(r"10\.\d{4,9}/[A-Za-z0-9:/_;.()\[\]\\-]+", paper["doi"])
    method = (REPOSITORY / "docs" / "method.md").read_text()
    assert paper["doi"] in method
    assert paper["title"] in method


def test_the_catalogue_of_workflows_finds_what_it_looks_for():
    usage = yaml.safe_load((REPOSITORY / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment"}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    assert all(isinstance(value, bool) for value in usage["software-stack-deployment"].values())
    readme = (REPOSITORY / "README.md").read_text().lower()
    assert "snakemake" in readme
    assert "workflow" in readme
    for name in (
        "Snakefile",
        "workflow/Snakefile",
        "config/README.md",
        "workflow/schemas/config.schema.yaml",
    ):
        assert (REPOSITORY / name).is_file()
    assert list((REPOSITORY / "workflow/rules").glob("*.smk"))
    told = set(re.findall(r"\]\((\w+\.yaml)\)", (REPOSITORY / "config/README.md").read_text()))
    assert told == {path.name for path in (REPOSITORY / "config").glob("*.yaml")}


def test_the_changelog_has_the_form_of_keep_a_changelog():
    text = (REPOSITORY / "CHANGELOG.md").read_text()
    heads = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert heads[0] == "[Unreleased]"
    for head in heads[1:]:
        version, day = re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\S+)", head).groups()
        assert datetime.date.fromisoformat(day)
        assert version
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= kinds
    assert PROJECT["version"] in text
