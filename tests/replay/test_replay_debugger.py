"""The dialogue with the debugger of Bochs, where it goes wrong."""

from __future__ import annotations

import pytest
from replay_small import AT, small_image

from verifier.replay.bochs import Bochs
from verifier.replay.bochs_debugger import Debugger
from verifier.replay.image import Image
from verifier.replay.machine import MachineError


@pytest.fixture(scope="module")
def image() -> Image:
    return small_image()


def test_a_bochs_that_hangs_is_an_error(image):
    with Bochs(image) as bochs:
        bochs.write({"rip": AT["trap"] + 1})
        bochs._debugger._seconds = 0.3
        with pytest.raises(MachineError, match=r"within 0\.3 seconds"):
            bochs._debugger.command("s 2")  # past the HLT, and nothing will come


def test_its_last_words_are_shown(monkeypatch):
    monkeypatch.setattr("verifier.replay.bochs_debugger._BIOS", bytes(1 << 23))
    with pytest.raises(MachineError, match="ROM image too large"):
        Debugger(bytes(4096), 0x10_0000, 1 << 20)


def test_a_command_that_it_does_not_know_is_an_error(image):
    with Bochs(image) as bochs, pytest.raises(MachineError, match="syntax error"):
        bochs._debugger.command("no such command")
