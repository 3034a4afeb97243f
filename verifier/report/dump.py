"""What the solver was asked, as files in SMT-LIB 2 that other solvers can read: a file each, with z3's answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from verifier.errors import UsageError
from verifier.files import replace_file
from verifier.machine.state import HOME, State
from verifier.terms.smtlib import LOGIC

if TYPE_CHECKING:
    from verifier.spec.model import Model
    from verifier.terms import Question


class Dump:
    """Writes each question that it is told of as ``00001.smt2``, ``00002.smt2``, … into a folder that is new."""

    def __init__(self, folder: Path, model: Model) -> None:
        """Raises UsageError if the folder is there already or cannot be made."""
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            hint = "what was asked before and what is asked now must not be mixed: name another one, or remove it"
            raise UsageError(f"{folder} is there already", None, hint) from None
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise UsageError(f"cannot make the folder {str(folder)[:200]}: {why}") from None
        self._folder = folder
        self._model = model
        self._count = 0

    @staticmethod
    def of(parent: str | None, model: Model) -> Dump | None:
        """A dump into a folder of the specification's name in ``parent``; none if that is None."""
        return None if parent is None else Dump(Path(parent) / model.path.stem, model)

    def __call__(self, question: Question) -> None:
        self._count += 1
        head = [f"; {label}: {_one_line(text)}" for label, text in self._comments(question)]
        info = [f"(set-info :status {question.answer})", f"(set-logic {LOGIC})"]
        text = "\n".join([*head, *info, question.text])
        replace_file(self._folder / f"{self._count:05}.smt2", text.encode("utf-8", "replace"), durable=False)

    def _comments(self, question: Question) -> list[tuple[str, str]]:
        about, given = question.about, f" ({question.reason})" if question.reason else ""
        comments = [("specification", str(self._model.path))]
        properties, state = about.get("properties"), about.get("state")
        if isinstance(properties, tuple):
            comments.append(("property", ", ".join(properties)))
        if isinstance(state, State):
            comments.append(("state", self._state(state)))
        comments.append(("question", str(about.get("question", ""))))
        return [*comments, ("answer", f"{question.answer}{given}")]

    def _state(self, state: State) -> str:
        at = "back at home" if state.rip == HOME else f"at {self._model.machine.program.describe(state.rip)}"
        blocked = ", NMIs blocked" if state.nmi_blocked else ""
        pending = ", one held pending" if state.nmi_pending else ""
        return f"{at}, having interrupted {state.home.context.name} code{blocked}{pending}"


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
