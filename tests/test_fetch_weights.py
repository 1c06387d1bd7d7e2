"""Weights by timm name, from a local server that answers as the model hub does."""

import http.server
import os
import subprocess
import sys
import threading

import pytest
import timm
from safetensors.torch import load_file, save_file

from ecsnet.errors import UserError
from ecsnet.fetch_weights import run


class Hub(http.server.BaseHTTPRequestHandler):
    """Serves one model file at the hub's address of it."""

    content = b""
    requests: list[str]

    def do_HEAD(self):
        self.requests.append(f"{self.command} {self.path}")
        found = self.path == "/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(self.content) if found else 0))
        self.send_header("ETag", '"1234"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()
        return found

    def do_GET(self):
        if self.do_HEAD():
            self.wfile.write(self.content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub(tmp_path):
    """The address of a running server, and the network whose weights it serves."""
    network = timm.create_model("test_resnet")
    save_file(network.state_dict(), tmp_path / "served.safetensors")
    handler = type(
        "Handler", (Hub,), {"content": (tmp_path / "served.safetensors").read_bytes(), "requests": []}
    )
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", network, handler.requests
    server.shutdown()


def fetch(tmp_path, endpoint, name="test_resnet"):
    environment = {
        **os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = ["ecsnet", "fetch_weights", "--name", name, "--source", "timm", "--out", "weights"]
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=120, check=False,
    )  # fmt: skip


def test_weights_are_downloaded_whole(hub, tmp_path):
    endpoint, network, requests = hub
    result = fetch(tmp_path, endpoint)
    assert result.returncode == 0, result.stderr
    state = load_file(tmp_path / "weights")
    assert {key: tensor.shape for key, tensor in state.items()} == {
        key: tensor.shape for key, tensor in network.state_dict().items()
    }
    assert "weights: test_resnet.r160_in1k from timm\n" in result.stdout
    assert (state["conv1.0.weight"] == network.state_dict()["conv1.0.weight"]).all()
    assert any(request.startswith("GET") for request in requests)


@pytest.mark.long  # the hub's client tries five times
def test_without_a_network_there_is_one_message_and_no_file(tmp_path):
    result = fetch(tmp_path, "http://127.0.0.1:9")
    assert result.returncode == 1
    assert "the weights of test_resnet could not be downloaded" in result.stderr
    assert "set backbone.weights to the path of a .safetensors file" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "weights").exists()


def test_a_model_that_the_hub_lacks_is_named(hub, tmp_path):
    result = fetch(tmp_path, hub[0], "test_vit")
    assert result.returncode == 1
    assert "the weights of test_vit could not be downloaded" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", ["resnet5O", "resnet10t.nothing"])
def test_an_unknown_name_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"choose a name from timm\.list_pretrained"):
        run(None, name=name, source="timm", out=tmp_path / "weights")


def test_the_packages_weights(tmp_path):
    run(None, name="tf_efficientnet_lite0", source="package", out=tmp_path / "weights")
    assert (
        load_file(tmp_path / "weights").keys()
        == timm.create_model("tf_efficientnet_lite0").state_dict().keys()
    )
