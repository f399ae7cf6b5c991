from __future__ import annotations

import json
import subprocess
import sys

import pytest

import medseg_fast as ms
from medseg_fast import _config


def test_show_config_prints_what_the_dict_holds(capsys):
    assert ms.show_config() is None
    text = capsys.readouterr().out
    config = ms.show_config("dict")
    assert config["medseg_fast"]["version"] == ms.__version__
    assert config["build"]["chosen"] in config["build"]["runnable"]
    assert set(config["build"]["runnable"]) <= set(config["build"]["present"])
    assert json.loads(json.dumps(config)) == config
    for part in (ms.__version__, config["cpu"]["model"], config["build"]["chosen"], "numba"):
        assert part in text


def test_show_config_names_the_extra_of_a_missing_package(monkeypatch):
    requirements = ['numba>=0.60; extra == "jit"', "here>=1; extra == 'io'", "x; extra == 'test'"]
    requirements += ["here>=1 ; extra == 'nn'", "numpy>=1.26"]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: requirements)
    found = _config.packages()
    assert list(found) == ["here", "numba", "numpy"]
    assert found["here"] == {"version": None, "extras": ["io", "nn"]}
    config = {**ms.show_config("dict"), "packages": found}
    assert '"medseg_fast[io]" or "medseg_fast[nn]"' in _config._text(config)


def test_show_config_imports_nothing_optional():
    script = (
        "import sys, medseg_fast as ms; ms.show_config('dict');"
        "assert not {'torch', 'cupy', 'numba', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_show_config_reads_the_drivers_entries(monkeypatch, tmp_path):
    folder = tmp_path / "gpus" / "0000:01:00.0"
    folder.mkdir(parents=True)
    (folder / "information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ: 1\n")
    version = tmp_path / "version"
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.90.07  Fri May 31\n")
    monkeypatch.setattr(_config, "_NVIDIA", tmp_path)
    config = ms.show_config("dict")
    assert config["gpu"]["devices"] == ["NVIDIA H100 80GB HBM3"]
    assert config["gpu"]["driver"] == "550.90.07"
    assert "NVIDIA H100 80GB HBM3 (driver 550.90.07)" in _config._text(config)


def test_show_config_says_why_the_gpu_is_off(monkeypatch, tmp_path):
    monkeypatch.setattr(_config, "_NVIDIA", tmp_path)
    config = ms.show_config("dict")
    assert config["gpu"]["off"] == "no NVIDIA driver is loaded"
    assert "off: no NVIDIA driver is loaded" in _config._text(config)
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX Kernel Module  550.90.07  Fri\n")
    assert ms.show_config("dict")["gpu"]["off"] == "the NVIDIA driver lists no GPU"
    folder = tmp_path / "gpus" / "0"
    folder.mkdir(parents=True)
    (folder / "information").write_text("Model: NVIDIA L4\n")
    found = {"cupy": None}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found.get(name))
    assert "CuPy is not installed" in ms.show_config("dict")["gpu"]["off"]
    found["cupy"] = "somewhere"
    monkeypatch.setattr(_config, "_cupy_devices", lambda probe: [])
    assert "CuPy can use none of them" in ms.show_config("dict")["gpu"]["off"]
    monkeypatch.setattr(_config, "_cupy_devices", lambda probe: ["NVIDIA L4"])
    assert ms.show_config("dict")["gpu"]["off"] is None


def test_show_config_bad_mode():
    with pytest.raises(ValueError, match="mode must be 'print' or 'dict', got 'json'"):
        ms.show_config("json")
