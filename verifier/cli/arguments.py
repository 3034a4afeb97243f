"""The command line: what can be asked, and how it is explained."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, NoReturn

from verifier.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_ABOUT = """\
Proves or refutes properties of x86-64 interrupt-entry assembly under every interleaving of events (NMIs,
interrupts, faults) at every instruction boundary.
"""
_CODES = """\
exit codes:
  prove     0 all proved   1 some refuted   3 some unknown   4 some vacuous
  refute    0 refuted      1 proved         3 unknown        4 vacuous
  check     0 every verdict is as expected   1 some is not
  recheck   0 the certificate holds   1 it does not   3 the solver gave up   5 its kind cannot be rechecked
  replay    0 agreed, or but for known deviations   1 differs   3 cannot be shown on that machine
  always    2 the command line, a specification or an assembly text is wrong, or the output cannot be written
            70 internal error   130 interrupted
  Of several, the first in this order wins: 70, 2, 1, 3, 4, 0.
"""
_EXAMPLES = """\
examples:
  verifier check specs/                              every verdict against the specification's 'expect:'
  verifier prove specs/nested_nmi_2010.yaml          all its properties, for any number of events
  verifier prove SPEC -p frame-intact --bound nmi=2,page_fault=1
  verifier refute SPEC -p frame-intact               show the run that breaks a property
  verifier prove SPEC --certificate FILE             write down why; then: verifier recheck FILE
  verifier replay SPEC -p frame-intact --on qemu     the run on a machine, compared step by step
  verifier new --from entry_64.o --entry asm_exc_nmi -o nmi.yaml
  verifier lift asm/nested_nmi_2010.s -D __percpu_seg=gs -D __KERNEL_CS=0x10
"""
_VALUE = re.compile(r"([A-Za-z_.$][A-Za-z0-9_.$]*)=(.*)", re.DOTALL)


class Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse would end the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, None, f"'{self.prog} --help' explains the command line")


def parse(argv: Sequence[str], version: str) -> argparse.Namespace:
    """Raises UsageError; ends the process for ``--help`` and ``--version`` alone."""
    parser = _main(version)
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.error("no command")
    return arguments


def _main(version: str) -> Parser:
    parser = Parser(
        prog="verifier",
        description=_ABOUT,
        epilog=f"{_EXAMPLES}\n{_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    shared, searching = _shared(), _searching()
    _add_prove(commands, [shared, searching])
    _add_refute(commands, [shared, searching])
    _add_check(commands, [shared, searching])
    _add_recheck(commands, [shared])
    _add_replay(commands, [shared, searching])
    _add_lift(commands, [shared])
    _add_new(commands, [shared])
    _command(commands, "schema", "print the JSON Schema of specifications, for editors", [shared])
    return parser


def _command(
    commands: argparse._SubParsersAction[Parser],
    name: str,
    about: str,
    parents: list[Parser],
    epilog: str = "",
) -> Parser:
    return commands.add_parser(
        name,
        help=about,
        description=about,
        parents=parents,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _shared() -> Parser:
    options = Parser(add_help=False)
    options.add_argument("-q", "--quiet", action="store_true", help="one line a verdict, and no progress")
    options.add_argument("-v", "--verbose", action="store_true", help="say more")
    options.add_argument(
        "-o", "--output", metavar="FILE", help="write to FILE, whole or not at all, instead of stdout"
    )
    options.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto", help="auto obeys NO_COLOR (default)"
    )
    return options


def _searching() -> Parser:
    options = Parser(add_help=False)
    options.add_argument("--json", action="store_true", help="one JSON document on stdout instead of text")
    options.add_argument(
        "--max-states", type=_positive, metavar="N", help="give up ('unknown') after N states of a search"
    )
    options.add_argument(
        "--routines", action="store_true", help="explore nested handlers once for many contexts: for large programs"
    )
    options.add_argument(
        "--dump-smt", metavar="DIR", help="write what the solver is asked, a new folder per specification"
    )
    return options


def _add_prove(commands: argparse._SubParsersAction[Parser], parents: list[Parser]) -> None:
    parser = _command(commands, "prove", "judge the properties of a specification", parents, _CODES)
    parser.add_argument("spec", metavar="SPEC", help="a YAML specification")
    parser.add_argument(
        "-p", "--property", action="append", metavar="NAME", help="only this property (can be repeated)"
    )
    _add_bound(parser)
    parser.add_argument(
        "--certificate", metavar="FILE", help="write down why what is proved holds, for 'verifier recheck'"
    )


def _add_refute(commands: argparse._SubParsersAction[Parser], parents: list[Parser]) -> None:
    parser = _command(commands, "refute", "show the run that breaks a property", parents, _CODES)
    parser.add_argument("spec", metavar="SPEC", help="a YAML specification")
    parser.add_argument(
        "-p", "--property", action="append", metavar="NAME", required=True, help="the property to refute"
    )
    parser.set_defaults(certificate=None)
    _add_bound(parser)


def _add_bound(parser: Parser) -> None:
    parser.add_argument(
        "--bound",
        type=_bound,
        metavar="EVENT=N,...",
        help="every run with at most N of each event, path by path, instead of any number",
    )


def _add_check(commands: argparse._SubParsersAction[Parser], parents: list[Parser]) -> None:
    about = "compare every verdict with what the specification expects"
    parser = _command(commands, "check", about, parents, _CODES)
    parser.add_argument("paths", metavar="PATH", nargs="+", help="specifications, or folders of *.yaml")
    parser.add_argument(
        "-j", "--jobs", type=_positive, default=1, metavar="N", help="judge N specifications at a time"
    )


def _add_recheck(commands: argparse._SubParsersAction[Parser], parents: list[Parser]) -> None:
    about = "check a certificate of 'verifier prove --certificate', by other code than the search's"
    parser = _command(commands, "recheck", about, parents, _CODES)
    parser.add_argument("certificate", metavar="FILE", help="a certificate")
    parser.add_argument("--spec", metavar="SPEC", help="the specification, if not where the certificate says")
    parser.add_argument("--solver", choices=("z3", "bitwuzla"), default="z3", help="default: z3")


def _add_replay(commands: argparse._SubParsersAction[Parser], parents: list[Parser]) -> None:
    about = "let a machine follow the runs that break properties, and compare it at every step"
    parser = _command(commands, "replay", about, parents, _CODES)
    parser.add_argument("what", metavar="SPEC|TRACE.json", help="a specification, or what 'prove --json' has written")
    parser.add_argument(
        "-p", "--property", action="append", metavar="NAME", help="only this property (can be repeated)"
    )
    parser.add_argument(
        "--on",
        action="append",
        choices=("qemu", "bochs", "interpreter"),
        help="the machine: qemu if not given (can be repeated)",
    )
    parser.add_argument("--spec", metavar="SPEC", help="the specification, if it is not where TRACE.json says")


def _add_lift(commands: argparse._SubParsersAction[Parser], parents: list[Parser]) -> None:
    parser = _command(commands, "lift", "print the SSA form of an assembly text or an object", parents)
    parser.add_argument("asm", metavar="ASM", nargs="+", help="assembly texts, in order, or objects")
    parser.add_argument(
        "-D", dest="define", action="append", default=[], metavar="NAME=VALUE", help="a definition"
    )
    parser.add_argument(
        "--entry", action="append", metavar="LABEL", help="where control comes in (default: global labels)"
    )
    parser.add_argument(
        "--extern", action="append", default=[], metavar="NAME=ADDRESS", help="a symbol defined elsewhere"
    )


def _add_new(commands: argparse._SubParsersAction[Parser], parents: list[Parser]) -> None:
    about = "write a specification to start from, with everything that objects say of themselves"
    parser = _command(commands, "new", about, parents)
    what = "ELF files, or listings of objdump -dr"
    parser.add_argument("--from", dest="object", nargs="+", required=True, metavar="OBJECT", help=what)
    parser.add_argument(
        "--entry", action="append", required=True, metavar="SYMBOL", help="where control comes in (can be repeated)"
    )


def _positive(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no positive number")
    return int(text)


def _bound(text: str) -> dict[str, int]:
    """``nmi=2,irq=1`` as a mapping."""
    bound: dict[str, int] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\w+)\s*=\s*([0-9]{1,6})\s*", part)
        if match is None:
            raise argparse.ArgumentTypeError(f"'{part}' is not EVENT=NUMBER, as in nmi=2,irq=1")
        if match[1] in bound:
            raise argparse.ArgumentTypeError(f"'{match[1]}' is given twice")
        bound[match[1]] = int(match[2])
    return bound


def definitions(items: Sequence[str]) -> dict[str, str | int]:
    """``-D`` options: NAME=VALUE, or NAME alone for an empty definition; numbers as such."""
    found: dict[str, str | int] = {}
    for item in items:
        match = _VALUE.fullmatch(item if "=" in item else f"{item}=")
        if match is None:
            raise UsageError(f"-D {item}: not NAME=VALUE")
        found[match[1]] = _number(match[2]) if _is_number(match[2]) else match[2]
    return found


def addresses(items: Sequence[str]) -> dict[str, int]:
    """``--extern`` options."""
    found = {}
    for item in items:
        match = _VALUE.fullmatch(item)
        if match is None or not _is_number(match[2]):
            raise UsageError(f"--extern {item}: not NAME=ADDRESS")
        found[match[1]] = _number(match[2])
    return found


def _is_number(text: str) -> bool:
    return re.fullmatch(r"0x[0-9a-fA-F]{1,16}|0|[1-9][0-9]{0,18}", text) is not None


def _number(text: str) -> int:
    return int(text, 0)
