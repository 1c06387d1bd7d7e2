"""The report and the page of a run in a real browser: headless Chromium."""

import json
import shutil
import time
from collections.abc import Iterator

import pytest
from test_workflow import snakemake

webdriver = pytest.importorskip("selenium.webdriver")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Debian's chromium and chromium-driver"),
    pytest.mark.timeout(600),
]

WIDTHS = {"desk": 1400, "phone": 390}


@pytest.fixture(scope="module")
def report(finished_run, tmp_path_factory):
    """Snakemake's report on a finished run; a copy, since the run is that of other tests, too."""
    folder, _ = finished_run
    out = tmp_path_factory.mktemp("report") / "report.html"
    result = snakemake(folder, "--report", str(out))
    assert result.returncode == 0, result.stdout
    return out


@pytest.fixture(params=WIDTHS)
def browser(request) -> Iterator:
    """A browser of a width, which notes what it asks for and what its scripts complain of."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--window-size={WIDTHS[request.param]},900",
    ):
        options.add_argument(argument)
    options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics(WIDTHS[request.param])})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def metrics(width):
    return {"width": width, "height": 900, "pixelRatio": 1.0, "touch": False}


def requests_of(browser) -> list[str]:
    """Addresses that a page has asked for."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [one["params"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    return [one["request"]["url"] for one in sent]


def check(browser, least_pictures: int) -> None:
    """All pictures are there, nothing was asked of another host, and no script failed."""
    shown = browser.execute_script(
        "return [...document.images].map(picture => [picture.complete, picture.naturalWidth])"
    )
    assert len(shown) >= least_pictures
    assert all(complete and width > 0 for complete, width in shown)
    asked = requests_of(browser)
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    severe = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert severe == []


def test_the_page_of_a_run(finished_run, browser):
    folder, _ = finished_run
    browser.get((folder / "results/tiny/overview.html").as_uri())
    check(browser, least_pictures=7)
    # tables and wide pictures scroll by themselves, the page does not
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    text = browser.find_element("tag name", "body").text
    for words in ("DeepLab on the filtered labels", "This run may not be compared", "train_segmenter"):
        assert words in text


def test_snakemakes_report(report, browser):
    browser.get(report.as_uri())
    wait_for(browser, "Workflow")
    text = browser.find_element("tag name", "body").text
    # on a narrow screen the menu hides it at first
    assert "Pixel masks from image tags" in browser.execute_script("return workflow_desc")
    for category in ("Overview", "Scores", "Pictures", "Labels", "Training"):
        assert category in text
    check(browser, least_pictures=0)
    assert browser.execute_script("return results") is not None
    assert len(browser.execute_script("return Object.keys(results)")) >= 10


def wait_for(browser, words: str) -> None:
    for _ in range(100):
        if words in browser.find_element("tag name", "body").text:
            return
        time.sleep(0.1)
    raise AssertionError(f"{words} did not come up")
