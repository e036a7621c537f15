"""The example for Kubernetes: its files fit each other, and the service does what they say, on a mount's layout."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from aioresilience import Registry

FOLDER = Path(__file__).parents[2] / "examples" / "kubernetes"


def manifest(name):
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


def test_the_configmap_and_the_fallback_hold_what_the_service_names():
    text = manifest("configmap")["data"]["resilience.yaml"]
    environ = {"AIORESILIENCE_SERVICE": "checkout"}
    assert "payments" in Registry.from_text(text, environ=environ)
    assert "payments" in Registry.from_file(FOLDER / "fallback.yaml", environ=environ)


def test_the_deployment_mounts_the_folder_of_the_file_it_names():
    spec = manifest("deployment")["spec"]["template"]["spec"]
    [container] = spec["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    [mount], [volume] = container["volumeMounts"], spec["volumes"]
    assert "subPath" not in mount
    assert os.path.dirname(variables["AIORESILIENCE_CONFIG"]) == mount["mountPath"]
    assert os.path.basename(variables["AIORESILIENCE_CONFIG"]) in manifest("configmap")["data"]
    assert volume["configMap"]["name"] == manifest("configmap")["metadata"]["name"]
    assert volume["name"] == mount["name"]


class Mount:
    """A ConfigMap's folder, as the kubelet keeps it."""

    def __init__(self, folder):
        self.folder, self.number = folder, 0

    def publish(self, text):
        self.number += 1
        data = self.folder / f"..{self.number}"
        data.mkdir()
        (data / "resilience.yaml").write_text(text)
        (self.folder / "..data_tmp").symlink_to(data.name)
        os.replace(self.folder / "..data_tmp", self.folder / "..data")
        if not (self.folder / "resilience.yaml").is_symlink():
            (self.folder / "resilience.yaml").symlink_to("..data/resilience.yaml")


@pytest.fixture
def mount(tmp_path):
    folder = tmp_path / "etc"
    folder.mkdir()
    return Mount(folder)


@pytest.fixture
def service(mount):
    """The service, started before there is a ConfigMap."""
    environ = os.environ | {
        "AIORESILIENCE_CONFIG": str(mount.folder / "resilience.yaml"),
        "AIORESILIENCE_FALLBACK_CONFIG": str(FOLDER / "fallback.yaml"),
        "AIORESILIENCE_SERVICE": "checkout",
    }
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port, number = listening.getsockname()[1], listening.fileno()
        command = [sys.executable, "-m", "uvicorn", "service:app", "--fd", str(number), "--log-level", "warning"]
        process = subprocess.Popen(command, cwd=FOLDER, env=environ, pass_fds=[number])
    yield process, f"http://127.0.0.1:{port}"
    process.terminate()
    assert process.wait(20) in (0, -signal.SIGTERM)


def get(url, path, data=None):
    try:
        with urllib.request.urlopen(url + path, data=data, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except OSError:
        return 0, {}


def eventually(check, seconds=30):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)


def test_the_service_starts_on_the_fallback_takes_the_configmap_up_and_its_probes_tell_the_generation(service, mount):
    process, url = service
    text = manifest("configmap")["data"]["resilience.yaml"]
    eventually(lambda: get(url, "/readyz")[0] == 503)
    assert get(url, "/livez")[1]["on_fallback"] is True
    mount.publish(text)
    eventually(lambda: get(url, "/readyz")[0] == 200)
    status, told = get(url, "/livez")
    assert (status, told["generation"], told["metadata"]) == (200, 2, {"revision": "7864d60"})
    mount.publish(text.replace("1500ms", "soon"))
    eventually(lambda: get(url, "/livez")[1]["last_reload_successful"] is False)
    assert get(url, "/readyz")[0] == 200, "the last good file is in force"
    assert get(url, "/charge/100", b"") == (200, {"status": "charged", "cents": 100})
    mount.publish(text.replace("1500ms", "2s"))
    eventually(lambda: get(url, "/livez")[1]["generation"] == 3)
    process.send_signal(signal.SIGHUP)
    assert get(url, "/charge/100", b"")[0] == 200, "a reload by signal, and nothing else"
