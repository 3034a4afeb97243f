"""What a verdict says of the code where control did not come: short, however much it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from verifier.cli import main

if TYPE_CHECKING:
    from pathlib import Path

SPEC = """
format: 1
program: {source: a.s}
machine:
  stacks: {nmi_ist: {size: 512}}
  idt: {nmi: {entry: nmi, gate: interrupt, stack: nmi_ist}}
environment: {interrupted: [kernel], events: {nmi: any}}
properties: {home: {that: restored(rip)}}
"""


@pytest.mark.parametrize(("count", "more"), [(24, ""), (25, ", and 1 more labels"), (900, ", and 876 more labels")])
def test_labels_that_are_left_out(count: int, more: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.s").write_text("nmi: iretq\n" + "".join(f"l{n}: nop\n" for n in range(count)))
    (tmp_path / "spec.yaml").write_text(SPEC)
    assert main(["prove", str(tmp_path / "spec.yaml")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    shown = ", ".join(f"l{n} (1)" for n in range(min(count, 24)))
    assert f"reached 1 of {count + 1} instructions; not: {shown}{more} events" in said
