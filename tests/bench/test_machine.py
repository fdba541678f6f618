import json

import torch

from maskatlas.bench.machine import Machine
from maskatlas.devices import has_bfloat16


def test_the_machine_is_named_with_what_decides_its_speed():
    machine = Machine.at_hand(torch.device("cpu"))
    plain = json.loads(json.dumps(machine.to_json()))
    assert list(plain) == [
        *("processor", "cores", "threads", "gpu", "bfloat16", "torch", "python", "system"),
    ]
    assert plain["threads"] == torch.get_num_threads()
    assert plain["bfloat16"] == has_bfloat16(torch.device("cpu"))
    assert plain["torch"] == torch.__version__
    assert plain["gpu"] is None
    assert machine.processor in machine.text()
    assert f"{machine.cores} cores, {machine.threads} threads" in machine.text()


def test_a_system_without_proc_still_has_a_processor(monkeypatch):
    def refuse(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr("maskatlas.bench.machine.Path.read_text", refuse)
    monkeypatch.setattr("maskatlas.bench.machine.platform.processor", lambda: "")
    assert Machine.at_hand(torch.device("cpu")).processor == "unknown processor"
